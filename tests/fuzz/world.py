"""What cases start from: a tiny data root, its scores, run directories that are done, and one that was interrupted."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from bench.files import read_bytes
from tests.fuzz.registry import Step
from tests.fuzz.sandbox import Outcome, execute

#: examples per split; so few that every one of them is read, trained on and evaluated
SIZES = {
    "coco": {"train": 4, "val": 2, "test": 3},
    "gqa": {"train": 2, "valid": 1, "testdev": 4},
    "nlvr": {"train": 6, "valid": 2, "test": 6},
    "tv": {"train": 4, "val": 5, "test": 1},
    "how2": {"train": 4, "val": 5, "test": 1},
    "yc2": {"train": 4, "val": 5, "test": 1},
}
SETTINGS = ["--set", "steps=2", "--set", "batch_size=2", "--set", "beams=1"]
RUN = ["run", "--method", "bitfit", "--backbone", "mini-bart", *SETTINGS, "--quiet"]
SWEEP = ["sweep", "--methods", "bitfit", "--backbone", "mini-bart", *SETTINGS, "--quiet"]
#: a sweep of one cheap cell, and what plans it without running it
CELL = ["--methods", "bitfit", "--backbone", "mini-bart", "--suites", "image-text", "--tasks", "gqa", *SETTINGS]
LONG = ["--set", "steps=40", "--set", "checkpoint_every=1"]


def scores(results: Path) -> dict[str, float]:
    """Return every metric below a results folder, by "run/task/metric"; what cannot be read is left out."""
    values: dict[str, float] = {}
    for path in sorted(results.glob("runs/*/record.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            for task, score in json.loads(read_bytes(path))["scores"].items():
                for metric, value in score["metrics"].items():
                    values[f"{path.parent.name}/{task}/{metric}"] = value
    return values


class World:
    """The folder of one call of the harness; everything in it is made on first use and never changed afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._baselines: dict[tuple[str, ...], dict[str, float]] = {}

    @cached_property
    def root(self) -> Path:
        """The data root without any mutation."""
        root = self.folder / "root"
        root.mkdir()
        pid = os.fork()
        if pid == 0:
            from bench.mini import write

            write.SIZES = SIZES
            write.write(root, seed=5)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, "the tiny data root was not written"
        return root

    @cached_property
    def results(self) -> Path:
        """Results of all eight tasks, and of a second seed of the first suite."""
        folder = self.folder / "base"
        folder.mkdir()
        for suite, seed in (("image-text", 1), ("image-text", 2), ("video-text", 1)):
            words = [*RUN, "--suite", suite, "--seed", str(seed), "--data", f"mini={self.root}"]
            done = execute(Step(words, seconds=120), folder)
            assert done.code == 0, done.text
        return folder / "results"

    @cached_property
    def interrupted(self) -> Path:
        """Results of two seeds of a run that were stopped after a checkpoint."""
        folder = self.folder / "stopped"
        folder.mkdir()
        for seed in (1, 2):
            before = set(folder.glob("results/runs/*/checkpoint.pt"))
            pid = os.fork()
            if pid == 0:
                execute_until_checkpoint(folder, seed, self.root)
            deadline = time.monotonic() + 60
            while set(folder.glob("results/runs/*/checkpoint.pt")) == before and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        return folder / "results"

    @cached_property
    def continued(self) -> dict[str, float]:
        """The scores of the interrupted run of seed 1 where it goes on undisturbed."""
        folder = self.folder / "continued"
        shutil.copytree(self.interrupted, folder / "results")
        done = execute(Step(long_run(1, self.root), seconds=120), folder)
        assert done.code == 0, done.text
        return scores(folder / "results")

    def baseline(self, suite: str, tasks: Sequence[str]) -> dict[str, float]:
        """Return the scores of the small sweep on the root without any mutation."""
        key = (suite, *tasks)
        if key not in self._baselines:
            folder = self.folder / f"baseline-{'-'.join(key)}"
            folder.mkdir()
            words = [*SWEEP, "--suites", suite, "--tasks", ",".join(tasks), "--data", f"mini={self.root}"]
            done = execute(Step(words, seconds=120), folder)
            assert done.code == 0, done.text
            self._baselines[key] = scores(folder / "results")
        return self._baselines[key]


def long_run(seed: int, root: Path) -> list[str]:
    """Return the command line of the run that is interrupted."""
    return [*RUN, *LONG, "--seed", str(seed), "--data", f"mini={root}"]


def execute_until_checkpoint(folder: Path, seed: int, root: Path) -> None:
    """Run in this process until somebody stops it; never return."""
    import runpy

    os.chdir(folder)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.argv = ["bench", *long_run(seed, root)]
    with contextlib.suppress(BaseException):
        runpy.run_module("bench", run_name="__main__", alter_sys=True)
    os._exit(0)


class Box:
    """The folder of one case. Files of the root and the results are hard links: :meth:`write` replaces, never edits."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.cwd = folder / "cwd"
        self.marker = folder / "code-ran"
        self.locks: list[int] = []
        self.cwd.mkdir(parents=True)
        self.root = folder / "root"
        self.results = self.cwd / "results"

    def use_root(self) -> Path:
        """Copy the data root into the box."""
        shutil.copytree(self.world.root, self.root, copy_function=os.link)
        return self.root

    def use_results(self, source: Path | None = None) -> Path:
        """Copy finished runs into the box."""
        shutil.copytree(source or self.world.results, self.results)
        return self.results

    def write(self, path: Path, content: bytes | str) -> Path:
        """Write a file anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            path.unlink()
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    def execute(self, step: Step) -> Outcome:
        """Run a command line in the box."""
        return execute(step, self.cwd)

    def baseline(self, suite: str, tasks: Sequence[str]) -> dict[str, float]:
        """Return the scores without any mutation."""
        return self.world.baseline(suite, tasks)

    def close(self) -> None:
        """Remove the folder, and let go of locked files."""
        for lock in self.locks:
            os.close(lock)
        shutil.rmtree(self.folder, ignore_errors=True)


def warm_up(world: World) -> None:
    """Import in this process what a sweep imports, so that no case has to.

    A child runs the small sweep and lists the modules that it has in the end; nothing of the program runs here.
    """
    import torch

    torch.set_num_threads(1)
    importlib.import_module("bench.cli")
    folder = world.folder / "warm"
    folder.mkdir()
    names = folder / "modules"
    root = world.root
    pid = os.fork()
    if pid == 0:
        import runpy

        os.chdir(folder)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        for words in (
            ["data", "check", str(root)],
            [*SWEEP, "--suites", "image-text", "--tasks", "gqa", "--data", f"mini={root}"],
        ):
            sys.argv = ["bench", *words]
            with contextlib.suppress(BaseException):
                runpy.run_module("bench", run_name="__main__", alter_sys=True)
        names.write_text("\n".join(name for name in sys.modules if not name.startswith("__")))
        os._exit(0)
    os.waitpid(pid, 0)
    for name in names.read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    _warm_transformers()
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        print(f"note: {len(threads)} threads are running before the forks", file=sys.stderr)


def _warm_transformers() -> None:
    """Load the miniature language model once with the library alone: it compiles a thousand patterns on first use."""
    from tqdm import tqdm
    from transformers import BartForConditionalGeneration
    from transformers.utils import logging

    import bench

    folder = Path(bench.__file__).parent / "mini" / "backbones" / "mini-bart"
    tqdm.monitor_interval = 0  # its thread would be there before every fork
    logging.disable_progress_bar()
    with contextlib.suppress(Exception):
        BartForConditionalGeneration.from_pretrained(folder)
