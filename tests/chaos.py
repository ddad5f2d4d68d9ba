"""A sweep on a cluster in which something breaks every few seconds: ``python -m tests.chaos --seed 1``.

Workers are killed, jobs requeued, nodes lose power and come back, the controller dies. After that the same command is
run once more, and every run must have one record, with the scores and weights of an undisturbed sweep. Exit code 0 if
that is so. Needs root and Slurm's packages (``slurm/dev-cluster install``).
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "slurm")]

from conftest import TINY  # noqa: E402
from dev_slurm import DevSlurm, why_not  # noqa: E402
from sweeping import Sweeping, run, same, undisturbed  # noqa: E402

METHODS = ("lora", "projector-only", "vl-adapter", "vl-pet-large", "bitfit", "adapter")
PAUSE = (3.0, 8.0)  # seconds between two faults


class Chaos:
    """The faults, drawn from a seeded generator."""

    def __init__(self, sweeping: Sweeping, runs: list, seed: int) -> None:
        self.on = sweeping
        self.runs = runs
        self.random = random.Random(seed)
        self.deck: list[Callable[[], str]] = []
        self.down: set[str] = set()
        self.done: dict[str, int] = {}

    def strike(self) -> None:
        """Do one fault, and say which."""
        if not self.deck:  # a deck of cards, so that every kind comes
            self.deck = [*[self.kill_worker, self.requeue] * 2, self.kill_node, self.kill_controller]
            self.random.shuffle(self.deck)
        fault = self.deck.pop()
        try:
            message = fault()
            self.done[fault.__name__] = self.done.get(fault.__name__, 0) + bool(message)
        except (AssertionError, OSError) as error:  # nothing to break any more, or Slurm was just not there
            message = f"{fault.__name__}: {' '.join(str(error).split())[:150]}"
        print(f"{time.strftime('%H:%M:%S')} {message or fault.__name__ + ': nothing to break'}", flush=True)
        for node in sorted(self.down):
            if self.random.random() < 0.5:
                with suppress(AssertionError):
                    self.on.cluster.control("start-node", node)
                    self.down.discard(node)

    def at_work(self) -> list:
        attempts = [(run_, self.on.attempts(run_)) for run_ in self.runs]
        return [(run_, tried[-1]) for run_, tried in attempts if tried and tried[-1].outcome is None]

    def kill_worker(self) -> str:
        working = self.at_work()
        if not working:
            return ""
        run_, attempt = self.random.choice(working)
        os.kill(attempt.pid, signal.SIGKILL)
        return f"killed the worker of {run_.id}"

    def requeue(self) -> str:
        working = self.at_work()
        if not working:
            return ""
        run_, attempt = self.random.choice(working)
        self.on.cluster.run("scontrol", "requeue", str(attempt.job))
        return f"requeued the job of {run_.id}"

    def kill_node(self) -> str:
        up = sorted({f"node{i}" for i in range(1, 5)} - self.down)
        if len(up) < 3:
            return ""
        node = self.random.choice(up)
        self.down.add(node)
        self.on.cluster.control("kill-node", node)
        return f"{node} lost power"

    def kill_controller(self) -> str:
        os.kill(int((self.on.cluster.folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
        time.sleep(self.random.uniform(0, 3))
        self.on.cluster.control("restart-controller")
        return "killed the controller and started it again"


def main() -> int:
    """Break things, then look whether anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long things break (180)")
    parser.add_argument("--runs", type=int, default=24, help="runs of the sweep, in multiples of 6 (24)")
    wanted = parser.parse_args()
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 2
    seeds = range(1, wanted.runs // len(METHODS) + 1)
    runs = [run(method, seed, steps=60) for method in METHODS for seed in seeds]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        data = folder / "tiny"
        _write(data)
        undisturbed(runs, folder / "undisturbed", data)
        print(f"{len(runs)} runs without any disturbance are done", flush=True)
        slurm = DevSlurm(folder / "slurm")
        slurm.folder.mkdir()
        try:
            slurm.control("up", "4")
            return _shake(Sweeping(slurm, folder, data), runs, folder / "undisturbed", wanted.seed, wanted.seconds)
        finally:
            slurm.control("down")


def _shake(on: Sweeping, runs: list, reference: Path, seed: int, seconds: float) -> int:
    on.open()
    flags = on.profile(parallel=6, requeues=50)
    chaos = Chaos(on, runs, seed)
    sweep = on.start(runs, *flags)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds and sweep.poll() is None:
        time.sleep(chaos.random.uniform(*PAUSE))
        chaos.strike()
    for _ in range(5):
        try:
            on.cluster.control("up")
            break
        except AssertionError as error:
            print(error, on.cluster.run("sinfo", "--Node", "--format=%N %T %E"), flush=True)
    first = sweep.communicate(timeout=900)[0]
    done = sum(on.at(run_).record.exists() for run_ in runs)
    print(f"{chaos.done}; the sweep ended with code {sweep.returncode} and {done} of {len(runs)} records", flush=True)
    again = on.sweep(runs, *flags, code=0) if sweep.returncode else first
    try:
        same(on, runs, reference)
    except AssertionError as lost:
        print(f"{again}\nlost: {lost}", file=sys.stderr)
        return 1
    tried = [len(on.attempts(run_)) for run_ in runs]
    print(f"{len(runs)} records, equal to the undisturbed ones, after {sum(tried)} attempts (at most {max(tried)})")
    return 0


def _write(data: Path) -> None:
    """Write the data root that the tests use."""
    from bench.mini import write

    write.SIZES = TINY
    data.mkdir()
    write.write(data, seed=5)


if __name__ == "__main__":
    sys.exit(main())
