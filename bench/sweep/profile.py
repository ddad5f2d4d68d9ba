"""Profiles: what a Slurm job of a sweep requests and which environment it sets up. Plain data, read from TOML."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from bench.config import FrozenModel
from bench.shipped_files import shipped
from bench.toml_files import expand_home, read_toml
from bench.validation import validated

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]  # a line break would end the #SBATCH line
Line = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # a NUL ends what the system reads of a script
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Option = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
LARGEST = 10**7  # of any number in a profile: more minutes, GPUs or GiB than there are
SET_BY_SWEEP = ("job-name", "output", "error", "open-mode", "array", "chdir", "ntasks", "ntasks-per-node")
CHECKOUT_PLACE = Path("slurm/profiles")  # where a checkout has the shipped profiles
#: Options of sbatch that a field of the profile sets under another name.
FIELD_OF_OPTION = {
    "time": "time_minutes",
    "signal": "signal_seconds",
    "mem": "memory_gb",
    "mem-per-cpu": "memory_gb",
    "mem-per-gpu": "memory_gb",
    "cpus-per-task": "cpus",
    "gpus-per-node": "gpus",
    "no-requeue": "requeue",
}


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the suite."""
    return sorted(file.stem for file in shipped("profiles").glob("*.toml"))


def profile_path(path: Path) -> Path:
    """Return the file that ``--profile`` names: itself, or a shipped profile by its name or its place in a checkout."""
    path = expand_home(path)
    if path.suffix == ".toml" and (path.parent != CHECKOUT_PLACE or os.path.lexists(path)):
        return path
    return shipped("profiles") / f"{path.stem}.toml" if path.stem in profile_names() else path


class Profile(FrozenModel):
    """The fields of a profile. What is None or empty is left to the cluster; GPUs and memory follow from the runs.

    Attributes:
        time_minutes: time limit of a job.
        partition, account, qos, constraint: as sbatch knows them.
        nodelist, exclude: nodes that a job must and must not have.
        nodes: nodes of a job, whose processes share every run of it.
        gpus: GPUs of a job on each node. It has a process for every GPU, and at least one on each node.
        cpus: CPUs of each process.
        memory_gb: memory of a job on each node in GiB.
        signal_seconds: how long before the time limit a job is told to stop (SIGUSR2). Slurm may be 60 s early.
        array_parallelism: how many jobs of a sweep run at once.
        pack: how many runs one job works through.
        requeue: whether a job may start again after preemption, a time limit or the loss of its node.
        max_requeues: after how many starts it no longer asks for another; Slurm's own requeues are not bounded.
        setup: lines of shell before Python starts: modules, conda, the environment.
        python: the shell command that starts Python on a node, such as one inside a container; by default the
            interpreter that submits.
        env: environment variables, set before ``setup`` to the letter.
        scratch: a folder on the node's own disk, made if need be and known to the job as TMPDIR; the node's shell
            expands variables in it.
        comment: sbatch's.
        conf: Slurm's configuration file, where it is not the system's; relative to the profile. For SLURM_CONF, where
            that is not set.
        extra: any other option of sbatch by its long name; true is an option without a value, false leaves it out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    time_minutes: Annotated[int, Field(ge=1, le=LARGEST)]
    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    nodelist: Text | None = None
    exclude: Text | None = None
    nodes: Annotated[int, Field(ge=1, le=LARGEST)] = 1
    gpus: Annotated[int, Field(ge=0, le=LARGEST)] | None = None
    cpus: Annotated[int, Field(ge=1, le=LARGEST)] = 1
    memory_gb: Annotated[float, Field(gt=0, le=LARGEST)] | None = None
    signal_seconds: Annotated[int, Field(ge=1, le=65535, validate_default=True)] = 120
    array_parallelism: Annotated[int, Field(ge=1, le=LARGEST)] = 64
    pack: Annotated[int, Field(ge=1, le=LARGEST)] = 1
    requeue: bool = True
    max_requeues: Annotated[int, Field(ge=0, le=LARGEST)] = 3
    setup: Annotated[tuple[Line, ...], Field(strict=False)] = ()
    python: Text | None = None
    env: dict[Variable, Line | int | float] = Field(default_factory=dict)
    scratch: Annotated[str, Field(pattern=r'^[^\x00-\x1f"`\\]+$')] | None = None
    comment: Text | None = None
    conf: Annotated[Path | None, Field(strict=False)] = None
    extra: dict[Option, bool | int | float | Text] = Field(default_factory=dict)

    @field_validator("signal_seconds")
    @classmethod
    def _before_the_limit(cls, value: int, given: ValidationInfo) -> int:
        minutes = given.data.get("time_minutes")
        if minutes is not None and value >= 60 * minutes:
            raise ValueError(f"{value} s are not less than time_minutes = {minutes}")
        return value

    @field_validator("conf")
    @classmethod
    def _is_a_path(cls, value: Path | None) -> Path | None:
        if value is not None and ("\0" in str(value) or value == Path()):
            raise ValueError("expected the path of a configuration file of Slurm")
        return value

    @field_validator("extra")
    @classmethod
    def _not_a_field(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            dashed = key.replace("_", "-")
            field = FIELD_OF_OPTION.get(dashed, dashed)
            if field in cls.model_fields:
                raise ValueError(f"{key!r} is the profile's field {field!r}; set that")
            if dashed in SET_BY_SWEEP:
                raise ValueError(f"{key!r} is set by the sweep itself")
        return value

    @classmethod
    def read(cls, path: Path) -> "Profile":
        """Read a profile from a TOML file, or one of those that come with the suite by its name, such as ``gpu``.

        ``slurm/profiles/gpu.toml``, their place in a checkout, means them outside of a checkout, too.

        Raises:
            UsageError: no such file, broken TOML, or a field that is wrong; near matches are named.
        """
        path = profile_path(path)
        content = read_toml(path, "profile", profile_names())
        profile = validated(cls, content, str(path))
        return profile.model_copy(update={"conf": (path.parent / profile.conf).resolve()}) if profile.conf else profile

    @property
    def processes_per_node(self) -> int:
        """How many processes of a job there are on each of its nodes."""
        return max(1, self.gpus or 0)

    @property
    def processes(self) -> int:
        """How many processes share the runs of a job (:mod:`bench.parallel`)."""
        return self.nodes * self.processes_per_node

    def submitit_parameters(self, name: str) -> dict[str, Any]:
        """Return the parameters for ``submitit.SlurmExecutor.update_parameters``; ``name`` is the job's.

        ``python`` is not among them: it is an argument of SlurmExecutor itself.
        """
        given = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "nodelist": self.nodelist,
            "exclude": self.exclude,
            "comment": self.comment,
            "nodes": self.nodes,
            "ntasks_per_node": self.processes_per_node if self.processes > 1 else None,
            "gpus_per_node": self.gpus or None,
            "mem": None if self.memory_gb is None else f"{round(self.memory_gb * 1024)}M",
        }
        extra = {key: value for key, value in self.extra.items() if value is not False}
        return {
            "job_name": name,
            "time": self.time_minutes,
            "cpus_per_task": self.cpus,
            # Since Slurm 22.05, srun does not take this from the job: a task would be bound to one CPU.
            "srun_args": [f"--cpus-per-task={self.cpus}"],
            "signal_delay_s": self.signal_seconds,
            "array_parallelism": self.array_parallelism,
            "setup": self.shell(),
            "additional_parameters": {("requeue" if self.requeue else "no_requeue"): True, **extra},
            **{key: value for key, value in given.items() if value is not None},
        }

    def shell(self) -> list[str]:
        """Return the lines of shell that a job runs before Python: variables, scratch folder, set-up."""
        lines = [f"export {key}={shlex.quote(str(value))}" for key, value in self.env.items()]
        if self.scratch:
            lines += [f'export TMPDIR="{self.scratch}"', 'mkdir -p "$TMPDIR"']
        if self.processes > 1:  # where process 0 is to be met: the script runs on the first node
            lines += ["export MASTER_ADDR=$(hostname)", "export MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))"]
        return [*lines, *self.setup]
