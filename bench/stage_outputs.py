"""What the stages of a run give: one frozen record per stage, and what a run has of them so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import backbones, train
from bench import device as dev
from bench.data.batches import TokenizedSplit
from bench.fingerprints import Fingerprints
from bench.preparation import Preparation
from bench.record_schema import Score
from bench.tasks import Task
from methods.core.handle import Handle


@dataclass(frozen=True)
class Machine:
    """Where the run is executed: its device, the memory meter of that device, and the environment for the record."""

    device: torch.device
    memory: dev.Memory
    environment: dict[str, Any]


@dataclass(frozen=True)
class DataRoot:
    """The data root of the run: its logical name, folder, fingerprint of the annotations, whether it is made up, and
    what it lacks of the published data, a line for each split."""

    name: str
    root: Path
    fingerprint: str
    synthetic: bool
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttachedModel:
    """The model with the method in it at its start values, and the number of its parameters by kind."""

    model: backbones.VLModel
    handle: Handle
    parameters: dict[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves beside the trained model.

    Attributes:
        trained: updates, examples, seconds.
        analytic_memory: bytes by purpose (:func:`bench.device.analytic`).
        selected: step and validation mean of the epoch whose weights the model has, None where it has the last ones.
    """

    trained: train.Trained
    analytic_memory: dict[str, int | None]
    selected: dict[str, float] | None


@dataclass(frozen=True)
class TaskPredictions:
    """The predictions of one task: rows ``{"id", "prediction", "reference"}``, what records call the split, and the
    oddities that were tolerated in it."""

    task: Task
    split: str
    rows: list[dict[str, Any]]
    tolerated: Mapping[str, int]


@dataclass(frozen=True)
class PredictedTasks:
    tasks: tuple[TaskPredictions, ...]
    seconds: float


@dataclass(frozen=True)
class ScoredTasks:
    scores: dict[str, Score]
    seconds: float


@dataclass
class StageOutputs:
    """The outputs of the stages that have finished, so that a failure in a later one does not lose them."""

    machine: Machine | None = None
    data: DataRoot | None = None
    fingerprints: Fingerprints = field(default_factory=dict)
    training_sets: dict[str, TokenizedSplit] = field(default_factory=dict)
    preparation: Preparation | None = None
    attached: AttachedModel | None = None
    training: TrainingResult | None = None
    predicted: PredictedTasks | None = None
    scored: ScoredTasks | None = None
