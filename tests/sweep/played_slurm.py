"""A Slurm that is played: commands that write down how they were called and say what a test wants them to say."""

import os
import stat
from pathlib import Path

import pytest

from bench.config import Execution, Run, resolve
from bench.run_dir import RunDir
from bench.sweep import attempts, slurm_client
from bench.sweep.claim_files import this_process
from bench.sweep.profile import Profile
from bench.sweep.slurm import SlurmSubmitter

PLAIN = {"partition": "main", "time_minutes": 60}


def make(seed: int = 1, backbone: str = "mini-bart", **settings: object) -> Run:
    return resolve(backbone, "lora", "image-text", seed=seed, settings=settings)


def submitter(results: Path, execution: Execution | None = None, **fields: object) -> SlurmSubmitter:
    profile = Profile.model_validate(PLAIN | fields)
    return SlurmSubmitter("try", "python -m bench sweep", results.resolve(), profile, execution or Execution())


def play_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put commands on PATH that append their arguments to ``calls`` and print the file of their name, ``NAME.says``.

    sbatch gives the ids 77, 78, ...; it refuses with the text of ``refusal``, if there is one, more jobs in an array
    than the number in ``most``.
    """
    folder.mkdir()
    for name in (*slurm_client.COMMANDS, "sinfo", "sacct"):
        file = folder / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/calls\ncat {folder}/{name}.says 2>/dev/null\n')
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
        (folder / f"{name}.says").write_text("")
    with (folder / "sbatch").open("a") as file:
        file.write(SBATCH.format(folder=folder))
    (folder / "most").write_text("1000000")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


SBATCH = """
cd {folder}
env > environment
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
if [ "${{last:-0}}" -ge "$(cat most)" ]; then
  echo "sbatch: error: $(cat refusal)" >&2
  sed -i '$d' calls
  exit 1
fi
echo "Submitted batch job $((76 + $(grep -c '^sbatch ' calls)))"
"""


def in_queue(slurm: Path, *jobs: tuple[str, str, str, str]) -> None:
    (slurm / "squeue.says").write_text("".join("|".join(job) + "\n" for job in jobs))


def calls(slurm: Path, name: str) -> list[str]:
    return [line for line in (slurm / "calls").read_text().splitlines() if line.split()[0] == name]


def tried(results: Path, run: Run, outcome: str | None = None, reason: str = "") -> None:
    """Make an attempt at a run that ended in such a way, or that was killed."""
    folder = RunDir(results, run.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    attempt = attempts.begin(folder, this_process(), None)
    if outcome:
        attempts.end(folder, attempt, outcome, reason)
