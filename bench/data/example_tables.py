"""The examples of a split: of small data read each time, of large data memory maps of a file in the cache folder.

Reading and checking two million records takes many seconds and, as objects, a gigabyte. So a large split is read once:
its columns are kept by the content of the annotations and the code that reads them, and all processes of a machine
share their pages. An example is an object only while somebody looks at it.
"""

import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import suites, tasks
from bench.data import held_out
from bench.data.check_cache import code_digest
from bench.data.columns import ExampleTable, table_arrays
from bench.data.mapped_arrays import read_verified, write_verified
from bench.data.roots import cache_folder
from bench.errors import UsageError
from bench.fingerprints import annotation_digests, overall
from bench.tasks import Example, Task
from bench.tasks.tolerance import Tolerance, counting, tolerate

EDITION = 1
CACHED_BYTES = 16 << 20  # annotations of a suite below this size are read each time
READERS = 2  # processes that read at once, each of which may take 800 MB
POLL_SECONDS = 0.02
KEPT = 100  # files in the cache folder, the latest
TUNING_PARTS = {held_out.TRAIN: "tuning-train", held_out.TUNING: "tuning"}


def read(task: Task, root: Path, split: str, *, tuning: bool = False) -> Sequence[Example]:
    """Read a split like ``task.read``, or the part of one that a run which tunes may look at; a large one only once.

    What is tolerated is counted as if it were read.

    Raises:
        UsageError: what the task's reader raises; nothing is kept then.
    """

    def read_files() -> Sequence[Example]:
        return held_out.read(task, root, split) if tuning else task.read(root, split)

    path = None
    if split in task.splits or tuning:
        with suppress(OSError):
            path = _cache_file(task, root, TUNING_PARTS[split] if tuning else split)
    if path is None:
        return read_files()
    return _load(path) or _read_and_keep(path, read_files)


def read_ahead(root: Path, splits: Iterable[tuple[Task, str]]) -> None:
    """Have processes of their own read those of some splits that are large and were not read before, two at a time.

    What is faulty is left to whoever reads it next.
    """
    missing: dict[Task, list[str]] = {}
    for task, split in splits:
        with suppress(OSError):
            path = _cache_file(task, root, split)
            if path is not None and not path.exists():
                missing.setdefault(task, []).append(split)
    if len(missing) < 2:
        return
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    waiting = [[sys.executable, "-m", __name__, str(root), task.name, *names] for task, names in missing.items()]
    running: list[subprocess.Popen[bytes]] = []
    try:
        while waiting or running:
            running = [process for process in running if process.poll() is None]
            while waiting and len(running) < READERS:
                null = subprocess.DEVNULL
                running.append(subprocess.Popen(waiting.pop(0), env=environment, stdin=null, stdout=null, stderr=null))
            time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            process.kill()
            process.wait()


def read_with_tolerances(task: Task, root: Path, split: str) -> tuple[Sequence[Example], dict[str, int]]:
    """Read a split; return its examples, and how often each kind of oddity was tolerated, by name."""
    with counting() as counter:
        examples = read(task, root, split)
    return examples, dict(sorted(counter.items()))


def _read_and_keep(path: Path, read_files: Callable[[], Sequence[Example]]) -> Sequence[Example]:
    with _without_collections():
        with counting() as tolerated:
            examples = read_files()
        _count(tolerated)
        arrays = table_arrays(examples) if examples else None
        if arrays is None:
            return examples
        del examples
        write_verified(path, arrays, {"tolerated": json.dumps(tolerated)})
        _drop_oldest(path.parent)
    return _load(path, count=False) or ExampleTable(arrays)


def _load(path: Path, *, count: bool = True) -> ExampleTable | None:
    content = read_verified(path)
    if content is None:
        return None
    arrays, metadata = content
    if count:
        _count(json.loads(metadata["tolerated"]))
    with suppress(OSError):
        path.touch()
    return ExampleTable(arrays)


def _count(tolerated: Mapping[str, int]) -> None:
    for kind, number in tolerated.items():
        tolerate(Tolerance(kind), number)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep Python from looking for cycles among millions of new objects that have none, which doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cache_file(task: Task, root: Path, part: str) -> Path | None:
    """Return where the table of a split is kept; None for small data."""
    suite = suites.get(task.suite)
    files = [path for pattern in suite.annotations for path in root.glob(pattern)]
    if sum(path.stat().st_size for path in files) < CACHED_BYTES:
        return None
    folders = sorted(
        str(path.relative_to(root)) for path in root.glob("*/clip_features/*")
    )  # readers choose among them
    parts = [str(EDITION), overall(annotation_digests(root, suite.name)), code_digest(task), task.name, part, *folders]
    key = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / "examples" / f"{key[:32]}.safetensors"


def _drop_oldest(folder: Path) -> None:
    """Remove all but the latest files of a folder of the cache; who has mapped one keeps it."""
    with suppress(OSError):
        paths = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        for path in paths[:-KEPT]:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    for name in sys.argv[3:]:
        with suppress(UsageError):
            read(tasks.get(sys.argv[2]), Path(sys.argv[1]), name)
