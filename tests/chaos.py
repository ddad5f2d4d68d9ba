"""Sweeps in which something breaks every few seconds: ``python -m tests.chaos --seed 1``.

One sweep for each executor, on Slurm, in local workers and inline. Workers are killed and frozen, jobs requeued, held
and lost, nodes drained and without power, the disk full, data and results away for a while, the clock stepped, and
another user joins in (:mod:`tests.chaos_faults`). A driver that ends while things break is started again. Then
everything is mended, the same command is typed until it has nothing left to do, and every run must have one record,
with the scores and weights of an undisturbed sweep. Exit code 0 if that is so, within the time. Needs root, and Slurm's
packages for Slurm (``slurm/dev-cluster install``).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "slurm")]

from chaos_faults import Shaken  # noqa: E402
from dev_slurm import DevSlurm, why_not  # noqa: E402
from sweeping import LEASE, Sweeping, run, same, undisturbed  # noqa: E402
from tiny_world import TINY  # noqa: E402

from bench.config import Run  # noqa: E402

METHODS = ("lora", "projector-only", "vl-adapter", "vl-pet-large", "bitfit", "adapter")
EXECUTORS = ("slurm", "local", "inline")
PAUSE = (3.0, 8.0)  # seconds between two faults
TIMES = 6  # that the command is typed after everything is mended
DISK = "64m"


class Drivers:
    """The processes that run the sweep's command; one that has ended with an error is started again."""

    def __init__(self, on: Sweeping, runs: Sequence[Run], flags: Sequence[str], count: int) -> None:
        self._on = on
        self._runs = runs
        self._command = on.command(runs, *flags)
        self._log = on.folder / "drivers.log"
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, cwd=ROOT, env=self._on.env, stdout=log, stderr=log, umask=0)

    def all_done(self) -> bool:
        return all(process.poll() == 0 for process in self._processes)

    def keep_up(self) -> None:
        """Start those again that have ended with an error."""
        self._processes = [self._start() if process.poll() else process for process in self._processes]

    def end(self, deadline: float) -> None:
        """Let the drivers end, and type the command again until it has nothing left to do.

        Raises:
            TimeoutError: this is not so before the deadline, or after the command was typed TIMES times.
        """
        for _ in range(TIMES):
            for process in self._processes:
                try:
                    process.wait(max(1.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    raise TimeoutError("the sweep does not end within its time") from None
            if self.all_done() and all(self._on.at(run_).read() for run_ in self._runs):
                return
            time.sleep(2 * float(LEASE))  # what another process is running ends, or is given up as lost
            self._processes = [self._start()]
        raise TimeoutError(f"typed {TIMES} times, the sweep has not done everything")

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])


def main() -> int:
    """Break things, then look whether anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long things break in each sweep (120)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after that in which each has to end (600)")
    parser.add_argument("--runs", type=int, default=12, help="runs of each sweep, in multiples of 6 (12)")
    parser.add_argument("--executors", default=",".join(EXECUTORS), help=f"of {','.join(EXECUTORS)} (all)")
    wanted = parser.parse_args()
    executors = wanted.executors.split(",")
    if "slurm" in executors and (reason := why_not()):
        print(f"error: {reason}", file=sys.stderr)
        return 2
    seeds = range(1, wanted.runs // len(METHODS) + 1)
    runs = [run(method, seed, steps=60) for method in METHODS for seed in seeds]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the other user has to get in
        os.environ["VLPET_BENCH_CACHE"] = str(folder / "cache")
        (folder / "data").mkdir(mode=0o777)
        data = folder / "data" / "tiny"
        _write(data)
        undisturbed(runs, folder / "undisturbed", data)
        print(f"{len(runs)} runs without any disturbance are done", flush=True)
        results = [_shake(executor, runs, folder, data, wanted) for executor in executors]
    return 0 if all(results) else 1


def _shake(executor: str, runs: list[Run], folder: Path, data: Path, wanted: argparse.Namespace) -> bool:
    """Disturb the sweep of an executor; return whether nothing was lost."""
    place = folder / executor
    place.mkdir()
    with _slurm(folder / "cluster" if executor == "slurm" else None) as cluster, _disk(place / "disk") as disk:
        on = Sweeping(cluster, place, data, results=disk / "results")
        on.results.mkdir()
        on.results.chmod(0o2777)
        on.env |= {"SLOW": "1", "CLOCK": str(place / "clock")}
        on.open()
        flags = on.profile(parallel=6) if cluster else ["--executor", executor]
        shaken = Shaken(on, runs, executor, wanted.seed)
        drivers = Drivers(on, runs, flags, 2 if executor == "inline" else 1)
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < wanted.seconds and not drivers.all_done():
                time.sleep(shaken.random.uniform(*PAUSE))
                print(f"{time.strftime('%H:%M:%S')} {executor}: {shaken.strike()}", flush=True)
                shaken.mend()
                drivers.keep_up()
            shaken.mend(everything=True)
            if cluster:
                _bring_up(cluster)
            drivers.end(time.monotonic() + wanted.limit)
            if shaken.guest:
                shaken.guest.wait(wanted.limit)
            same(on, runs, folder / "undisturbed")
        except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as lost:
            print(f"{drivers.last_words()}\n{executor}: lost: {lost}", file=sys.stderr)
            return False
        finally:
            shaken.mend(everything=True)
            drivers.stop()
            if shaken.guest:
                shaken.guest.kill()
                shaken.guest.wait()
        tried = [len(on.attempts(run_)) for run_ in runs]
        seconds = time.monotonic() - begun
        print(f"{executor}: {dict(shaken.struck)}")
        print(
            f"{executor}: {len(runs)} records, equal to the undisturbed ones, after {sum(tried)} attempts"
            f" (at most {max(tried)}) and {seconds:.0f} s",
            flush=True,
        )
    return True


@contextmanager
def _slurm(folder: Path | None) -> Iterator[DevSlurm | None]:
    """Run a cluster in a folder, if there is one."""
    if folder is None:
        yield None
        return
    folder.mkdir()
    cluster = DevSlurm(folder)
    try:
        cluster.control("up", "4")
        yield cluster
    finally:
        cluster.control("down")


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system, which can be full for everybody; without the right to do so a folder has to do."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=777", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _bring_up(cluster: DevSlurm) -> None:
    for _ in range(5):
        with suppress(AssertionError):
            cluster.control("up")
            return


def _write(data: Path) -> None:
    """Write the data root that the tests use."""
    from bench.mini import write

    write.SIZES = TINY
    data.mkdir()
    write.write(data, seed=5)


if __name__ == "__main__":
    sys.exit(main())
