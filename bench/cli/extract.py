"""``data extract``: the features of pictures and videos by an image encoder."""

import argparse
import sys
import time
from pathlib import Path

from bench.cli.options import count, path, seconds
from bench.errors import UsageError

LOG_EVERY = 30.0  # seconds between two lines of progress where there is no terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only ``extract`` reads."""
    group = parser.add_argument_group("extract")
    group.add_argument("--images", type=path, metavar="DIR", help="pictures to extract grids of, or to show")
    group.add_argument("--videos", type=path, metavar="DIR", help="videos, or folders of frames, to compute rows of")
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="clip-rn101, clip-vit-b32, mini, or a folder or hub repository (REPOSITORY@REVISION) of transformers",
    )
    group.add_argument("--weights", type=path, metavar="FILE", help="its weights, where they are not found by name")
    group.add_argument("--every", type=seconds, default=1.5, metavar="S", help="seconds between two frames (1.5)")
    group.add_argument("--batch-size", type=count, default=64, metavar="N", help="pictures in one batch (64)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")


def call(arguments: argparse.Namespace) -> int:
    """Extract what the arguments say; 1 if some pictures or videos could not be read, which are listed."""
    if (arguments.images is None) == (arguments.videos is None):
        raise UsageError("data extract: say what to read, with --images DIR or with --videos DIR")
    if arguments.encoder is None or arguments.out is None:
        missing = "--encoder NAME" if arguments.encoder is None else "--out DIR"
        raise UsageError(f"data extract: {missing} is missing")
    folder: Path = arguments.images or arguments.videos
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    from bench import encoders
    from bench.data.extraction import extract
    from bench.data.pictures import find_pictures, find_videos
    from bench.device import pick

    device = pick(arguments.device)
    sources = find_pictures(folder) if arguments.images else find_videos(folder)
    report = extract(
        sources,
        encoders.load(arguments.encoder, arguments.weights),
        "grid" if arguments.images else "frames",
        arguments.out,
        seconds=arguments.every,
        dtype=arguments.dtype or "float16",
        batch_size=arguments.batch_size,
        jobs=arguments.jobs,
        device=device,
        progress=_TimeLeft("pictures" if arguments.images else "videos"),
    )
    for fault in report.faults:
        print(f"fault  {fault}")
    print(
        f"{arguments.out}: {report.written:,} written, {report.kept:,} kept, {len(report.faults):,} could not be read"
    )
    return 1 if report.faults else 0


class _TimeLeft:
    """Shows how many are done and how long the others will take: in the last line of a terminal, now and then in a
    log."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._begun = self._shown = time.monotonic()
        self._before: int | None = None  # were done before

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._before = done if self._before is None else self._before
        new = done - self._before
        left = f", about {(now - self._begun) / new * (total - done):.0f} s left" if new and done < total else ""
        line = f"{done:,} of {total:,} {self._noun}{left}"
        if sys.stderr.isatty():
            end = "\n" if done == total else "\r"
            print(f"\r\x1b[K{line:.100}", end=end, file=sys.stderr, flush=True)
        elif now - self._shown >= LOG_EVERY or done == total:
            self._shown = now
            print(line, file=sys.stderr, flush=True)
