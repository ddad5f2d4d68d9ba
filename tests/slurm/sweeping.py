"""Sweeps on a cluster for tests: very small runs, and what they must have become in the end."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev_slurm import DevSlurm

from bench.config import Execution, Run, resolve
from bench.files import read_json_lines
from bench.run_dir import RunDir
from bench.sweep import attempts, progress_file
from bench.sweep.attempts import Attempt
from bench.sweep.claim_files import current
from bench.sweep.claims import ClaimObserver
from bench.sweep.execute import work_through

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "tests" / "slurm" / "site"
SETTINGS = {"batch_size": 8, "checkpoint_every": 5, "beams": 1}
LEASE = "8"  # seconds: a lost node's runs are taken over soon
PROFILE = """
partition = "{partition}"
nodes = {nodes}
gpus = {gpus}
cpus = 1
memory_gb = 0.9
time_minutes = 30
signal_seconds = 60
array_parallelism = {parallel}
pack = {pack}
requeue = {requeue}
max_requeues = 50

[env]
OMP_NUM_THREADS = 1
HF_HUB_OFFLINE = 1
CUDA_VISIBLE_DEVICES = ""
"""


def run(method: str, seed: int = 1, steps: int = 20) -> Run:
    """A run of a second or two, beside the start of its process."""
    return resolve(
        "mini-bart", method, "image-text", seed=seed, task_names=("gqa",), settings={**SETTINGS, "steps": steps}
    )


class Sweeping:
    """A results folder, and the command line on it in an environment that sees the cluster."""

    def __init__(self, cluster: Any, folder: Path, data: Path, results: Path | None = None) -> None:
        self.cluster = cluster
        self.folder = folder
        self.results = results or folder / "results"
        self.data = data
        self.env = (cluster.env if cluster else dict(os.environ)) | {
            "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
            "OMP_NUM_THREADS": "1",
            "NO_PICTURES": "1",
            "QUICK_LOOKS": "1",
            "GATE": str(folder / "gate"),
            "VLPET_BENCH_LEASE_SECONDS": LEASE,
        }
        self.started: list[subprocess.Popen[str]] = []

    def profile(
        self,
        partition: str = "main",
        parallel: int = 4,
        pack: int = 1,
        *,
        requeue: bool = True,
        nodes: int = 1,
        gpus: int = 0,
    ) -> list[str]:
        """Write a profile; return the flags that use it."""
        file = self.folder / "profile.toml"
        values = {"partition": partition, "parallel": parallel, "pack": pack, "requeue": str(requeue).lower()}
        values |= {"nodes": nodes, "gpus": gpus}
        file.write_text(PROFILE.format(**values))
        return ["--executor", "slurm", "--profile", str(file)]

    def words(self, runs: Sequence[Run]) -> list[str]:
        """Return the flags of the sweep that consists of these runs (a product of methods and seeds)."""
        methods = ",".join(dict.fromkeys(run_.method for run_ in runs))
        seeds = ",".join(str(seed) for seed in dict.fromkeys(run_.seed for run_ in runs))
        settings = {**SETTINGS, "steps": runs[0].recipe.steps}
        return [
            *("--methods", methods, "--seeds", seeds, "--suites", "image-text", "--tasks", "gqa"),
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
            *("--results", str(self.results)),
        ]

    def folder_flags(self) -> list[str]:
        return ["--data", f"mini={self.data}", "--reports", str(self.folder / "reports")]

    def command(self, runs: Sequence[Run], *flags: str) -> list[str]:
        """Return the command line of a sweep."""
        return [sys.executable, "-m", "bench", "sweep", *self.words(runs), *self.folder_flags(), *flags]

    def start(self, runs: Sequence[Run], *flags: str) -> subprocess.Popen[str]:
        """Start a sweep in the background."""
        command = self.command(runs, *flags)
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.started.append(subprocess.Popen(command, cwd=ROOT, env=self.env, **pipes))
        return self.started[-1]

    def sweep(self, runs: Sequence[Run], *flags: str, code: int = 0) -> str:
        """Run a sweep to its end; return what it says."""
        return self.end(self.start(runs, *flags), code)

    @staticmethod
    def end(sweep: subprocess.Popen[str], code: int = 0, seconds: float = 150) -> str:
        """Wait for a sweep to end; return what it said."""
        output = sweep.communicate(timeout=seconds)[0]
        assert sweep.returncode == code, output
        return output

    def bench(self, *words: str, code: int = 0) -> str:
        """Run another verb; return what it prints."""
        command = [sys.executable, "-m", "bench", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def status(self, runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
        rows = json.loads(self.bench("status", *self.words(runs), "--format", "json"))["runs"]
        return {row["run"]: row for row in rows}

    def at(self, run_: Run) -> RunDir:
        return RunDir(self.results, run_.id)

    def attempts(self, run_: Run) -> list[Attempt]:
        return attempts.read(self.at(run_))

    def job(self, run_: Run) -> str:
        return str(self.attempts(run_)[-1].job)

    def node(self, run_: Run) -> str:
        return self.attempts(run_)[-1].host

    def at_gate(self, *runs: Run, seconds: float = 120) -> None:
        """Wait until runs have made a checkpoint and ten updates; they go no further until the gate is opened."""

        def waits(run_: Run) -> bool:
            return self.at(run_).checkpoint.exists() and progress_file.read(self.at(run_)).get("step") == 10

        self.until(lambda: all(waits(run_) for run_ in runs), "the runs are at the gate", seconds)

    def open(self) -> None:
        """Let runs go on."""
        (self.folder / "gate").touch()

    until = staticmethod(DevSlurm.until)

    def stop(self) -> None:
        """End what was started here and has not ended."""
        for sweep in self.started:
            if sweep.poll() is None:
                sweep.kill()
                sweep.communicate()


def undisturbed(runs: Sequence[Run], results: Path, data: Path) -> None:
    """Do runs in this process, as an inline sweep does."""
    work_through(runs, Execution(device="cpu", data={"mini": data}), results)


def same(ours: Sweeping, runs: Sequence[Run], reference: Path) -> None:
    """Assert that every run has exactly one valid record, with scores and weights of an undisturbed inline sweep."""
    folders = {path.name for path in (ours.results / "runs").iterdir()}
    assert folders == {run_.id for run_ in runs}, folders
    for run_ in runs:
        run_dir, reference_dir = ours.at(run_), RunDir(reference, run_.id)
        record, expected = run_dir.read(), reference_dir.read()
        assert record is not None, run_.id
        assert expected is not None, run_.id
        assert record.status == "done", record.error
        is_equal = {
            "scores": {n: s.metrics for n, s in record.scores.items()}
            == {n: s.metrics for n, s in expected.scores.items()},
            "weights": run_dir.weights.read_bytes() == reference_dir.weights.read_bytes(),
            "predictions": run_dir.read_predictions("gqa") == reference_dir.read_predictions("gqa"),
        }
        assert all(is_equal.values()), f"{run_.id}: {is_equal}"
        steps = [row["step"] for row in read_json_lines(run_dir.curve)]
        assert steps == sorted(set(steps)), f"{run_.id}: {steps}"
        assert steps[-1] == run_.recipe.steps, f"{run_.id}: {steps}"
        outcomes = [attempt.outcome for attempt in ours.attempts(run_)]
        assert outcomes.count("done") == 1, f"{run_.id}: {outcomes}"
        left = {path.name for path in run_dir.path.iterdir() if path.name.startswith(".") or "progress" in path.name}
        assert not left, f"{run_.id}: {left}"
        claim = current(run_dir.claim)
        assert claim is not None, run_.id
        assert not ClaimObserver().is_held(run_dir.claim), f"{run_.id}: {claim}"
