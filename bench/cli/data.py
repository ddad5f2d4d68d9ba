"""``data``: check or show a root, pack or extract its features, write the miniature one, or convert raw annotations."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import examples, extract
from bench.cli.options import count, path
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.suites import Suite

EXAMPLES = {
    "data": "example: python -m bench data check /data/datasets --suite image-text\n"
    "         python -m bench data pack /data/datasets --suite image-text\n"
    "         python -m bench data show mini --task vqa\n"
    "         python -m bench data mini my-mini --seed 3\n"
    "         python -m bench data convert nlvr2 raw/train.json raw/dev.json raw/test1.json --out /data/datasets\n"
    "         python -m bench data extract --images pictures --encoder clip-rn101 --weights RN101.pt --out features"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "what",
        choices=("check", "show", "pack", "extract", "mini", "convert"),
        help="check a root, show examples with their pictures, pack features, extract those of pictures, write the "
        "miniature (synthetic) root, or convert raw annotations",
    )
    parser.add_argument(
        "words",
        nargs="*",
        type=path,
        default=[],
        metavar="ROOT",
        help="folder (check, show: the generated miniature one); for convert, nlvr2 or gqa and the raw files",
    )
    parser.add_argument(
        "--out", type=path, metavar="ROOT", help="data root that convert writes to, or folder of extract"
    )
    parser.add_argument("--suite", action="append", help="only this suite")
    parser.add_argument("--seed", type=int, default=0, help="seed of the miniature world (0)")
    parser.add_argument("--n-boxes", type=int, default=36, metavar="N", help="n_boxes of the recipe to check for (36)")
    parser.add_argument(
        "--features",
        choices=("all", "sample"),
        default="all",
        help="read every feature file, and go on where an earlier check ended, or a sample of each split (all)",
    )
    parser.add_argument(
        "--jobs", type=count, default=os.cpu_count() or 1, metavar="N", help="processes that read files (the cores)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        help="of stored values: of a pack (float32; float16 takes half the room and is other data, unless all values "
        "are the same in it), or of extracted features (float16, as the published ones)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="numbers of examples that are not the published ones are all right"
    )
    examples.add(parser)
    extract.add(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    if arguments.what == "convert":
        return _convert(arguments)
    if arguments.what == "extract":
        if arguments.words:
            raise UsageError(f"data extract: name the folder with --images or --videos, not as {arguments.words[0]}")
        return extract.call(arguments)
    if len(arguments.words) > 1:
        raise UsageError(f"data {arguments.what}: one folder at a time, not {arguments.words[1]} as well")
    arguments.root = arguments.words[0] if arguments.words else None
    return {"mini": _mini, "pack": _pack, "check": _check, "show": examples.call}[arguments.what](arguments)


def _convert(arguments: argparse.Namespace) -> int:
    from bench.data.convert import FORMS, convert

    form, *files = map(str, arguments.words or [""])
    if form not in FORMS:
        raise UsageError(f"data convert: say what the files are, {' or '.join(FORMS)}, before their names")
    if not files or arguments.out is None:
        raise UsageError(f"data convert {form}: name the raw files, and the data root with --out ROOT")
    for line in convert(form, [Path(file) for file in files], arguments.out):
        print(line)
    return 0


def _mini(arguments: argparse.Namespace) -> int:
    """Write the miniature data of the chosen suites, by default those of the built-in ones, which share them."""
    from bench import suites
    from bench.data.roots import generate

    if arguments.root is None:
        raise UsageError("data mini: say which folder to write, for example `python -m bench data mini my-mini`")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: expected a whole number of at least 0")
    if os.path.lexists(arguments.root):
        raise UsageError(f"{arguments.root}: is there already; nothing is overwritten, choose another folder")
    miniatures = dict.fromkeys(suites.get(name).miniature for name in arguments.suite or suites.built_in())
    if len(miniatures) > 1 or None in miniatures:
        raise UsageError("data mini: name one suite that has miniature data, for example --suite image-text")
    for miniature in filter(None, miniatures):
        print(f"wrote {generate(miniature, arguments.root, arguments.seed)} (synthetic)")
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    """Pack every feature folder that the chosen suites read, by default those that have annotations in the root."""
    from bench import suites
    from bench.data.packing import pack_folder
    from bench.data.roots import feature_folders, has_annotations

    root: Path | None = arguments.root
    dtype: str = arguments.dtype or "float32"
    if root is None or not os.path.isdir(root):
        raise UsageError(f"{root}: no such folder" if root else "data pack: say which data root to pack")
    chosen = [suites.get(name) for name in arguments.suite or suites.names()]
    for suite in chosen if arguments.suite else [s for s in chosen if has_annotations(root, s)]:
        folders = feature_folders(root, suite)
        if not folders:
            raise UsageError(f"{root}: has no feature files of {suite.name} (*{suite.features.suffix})")
        for folder in folders:
            name = folder.relative_to(root)

            def show(done: int, total: int, name: Path = name) -> None:
                show_progress(f"packing {name}: {done:,} of {total:,} files")

            report = pack_folder(folder, suite.features, dtype, arguments.jobs, show)
            show_progress("")
            exact = "the same values" if report.is_exact else f"values rounded to {dtype}"
            print(
                f"packed {name}: {report.files:,} files, {exact} ({report.written} shards written, {report.kept} kept)"
            )
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Check each suite in the root that was named, or else in its own miniature.

    Of a root that was named, suites of plug-ins are checked only where the root has annotations of theirs, or where
    the suite was named too.
    """
    from bench import suites
    from bench.data.check import check
    from bench.data.roots import MINI, has_annotations, is_synthetic, locate
    from bench.tasks import get
    from bench.tasks.tolerance import REASONS, Tolerance

    root: Path | None = arguments.root
    if root is not None and not os.path.isdir(root):  # a Path would raise where the name is too long
        raise UsageError(f"{root}: no such folder")
    chosen = [suites.get(name) for name in arguments.suite or suites.names()]
    if not arguments.suite and root:
        chosen = [s for s in chosen if s.name in suites.built_in() or has_annotations(root, s)]
    elif not arguments.suite:
        chosen = [s for s in chosen if s.miniature]
    words = []
    for suite in chosen:
        folder = root or locate(MINI, suite.name, {})
        for report in check(
            folder,
            suite.name,
            n_boxes=arguments.n_boxes,
            progress=show_progress,
            complete=arguments.features == "all",
            jobs=arguments.jobs,
        ):
            official = None if is_synthetic(folder) else report.official_examples
            lacks = official is not None and report.is_incomplete and not arguments.partial
            words.append("fault" if report.fault else "incomplete" if lacks else "ok")
            if report.fault:
                print(f"fault  {report.name}: {report.fault}")
                continue
            note = "" if official is None else f"; the published files have {official:,}"
            files = get(report.task).splits[report.split]
            print(f"{words[-1]:<6} {report.name}: {report.examples:,} examples ({files}){note}")
            for kind, number in report.tolerated.items():
                print(f"note   {report.name}: tolerated {number:,} {kind} ({REASONS[Tolerance(kind)]})")
        _print_folders(folder, suite)
    if "incomplete" in words:
        print("not the published data; if that is what you want, say so with --partial")
    return 2 if "fault" in words else 1 if "incomplete" in words else 0


def _print_folders(root: Path, suite: "Suite") -> None:
    """Print how the features of each folder were extracted, where that is known, and which folders are packed."""
    from bench.data.extraction_manifest import read_manifest
    from bench.data.packs import PackFault, find_pack, is_interrupted
    from bench.data.roots import feature_folders

    for folder in feature_folders(root, suite):
        name = folder.relative_to(root)
        if manifest := read_manifest(folder):
            print(f"note   {name}: extracted by {manifest.get('encoder')} ({manifest.get('weights')})")
        if is_interrupted(folder):
            print(f"note   {name}: is being packed, or that was interrupted; `data pack` goes on with it")
        with suppress(PackFault):  # a fault of each split that needs the folder
            if pack := find_pack(folder):
                exact = "the values of the files" if pack.is_exact else f"values rounded to {pack.dtype}"
                print(f"note   {name}: packed, {len(pack):,} files, {exact}")


def show_progress(line: str) -> None:
    """Show where the check is, in the last line of a terminal; print nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line:.100}\r", end="", file=sys.stderr, flush=True)
