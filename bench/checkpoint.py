"""The checkpoint of a training: written atomically, and verified before it is gone on from."""

import errno
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from bench import device as dev
from bench.files import atomic_write, one_line, require_regular_file
from bench.fingerprints import Fingerprints, differences, summary
from bench.parallel import ALONE, Group

NO_FILE = (errno.EINVAL, errno.ELOOP)  # of the error for something else in the place of a file
KEYS = {"run", "fingerprints", "step", "examples", "step_seconds", "tensors", "optimizer", "rng"}
OF_OTHERS = "rng_of_others"  # a further field: the random states of all processes of a run but the first, by rank
ADDED = {OF_OTHERS, "data_wait_seconds"}  # fields that not every checkpoint has


class Unusable(Exception):
    """A checkpoint that this training cannot go on from; the message says why."""


@dataclass
class TrainingProgress:
    """How far a training is: number of updates, number of examples in them, seconds of every update, and how many of
    these the device waited for data."""

    steps: int = 0
    examples: int = 0
    step_seconds: list[float] = field(default_factory=list)
    data_wait_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file of one run.

    Attributes:
        path: the file.
        run: the id of the run.
        fingerprints: of what the run is made of; a checkpoint with others is not gone on from.
        reject: called with the reason where the file cannot be used; it puts the file aside.
        writing: opens the file for writing so that it appears complete or not at all.
        group: the processes of the run; the first reads and writes the file for all of them.
        seed: of the run, for the random numbers of processes that the file has none for.
        note: receives what a reader of the scores should know.
    """

    path: Path
    run: str
    fingerprints: Fingerprints
    reject: Callable[[str], None]
    writing: Callable[[Path], AbstractContextManager[IO[bytes]]] = atomic_write
    group: Group = ALONE
    seed: int = 0
    note: Callable[[str], None] = lambda text: None

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, progress: TrainingProgress) -> None:
        """Write the tensors that training changes, the optimiser, the random states and the progress."""
        random_states = self.group.gather(dev.rng_state())
        if not self.group.leads:
            return
        state = {
            "run": self.run,
            "fingerprints": self.fingerprints,
            "step": progress.steps,
            "examples": progress.examples,
            "step_seconds": torch.tensor(progress.step_seconds, dtype=torch.float64),
            "data_wait_seconds": progress.data_wait_seconds,
            "tensors": {name: tensor.detach().cpu() for name, tensor in changing_tensors(model).items()},
            "optimizer": optimiser.state_dict(),
            "rng": random_states[0],
        }
        if random_states[1:]:
            state[OF_OTHERS] = random_states[1:]
        with self.writing(self.path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # a full disk, of which torch says "unexpected pos"
                    raise error.__context__ from error
                raise

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> TrainingProgress | None:
        """Load the file into model, optimiser and random generators.

        Nothing is changed before all of the file has been verified. A file that is not the checkpoint of this training
        is given to ``reject``. Another number of processes may go on from it, and draws other numbers for dropout.

        Args:
            model, optimiser: as they are at the start of the training.
            steps: number of updates of the whole training.

        Returns:
            The progress in the file, or None where there is none or it cannot be used.
        """
        state = self.group.share(lambda: self._usable_state(model, optimiser, steps))
        if state is None:
            return None
        current = changing_tensors(model)
        with torch.no_grad():
            for name, tensor in state["tensors"].items():
                current[name].copy_(tensor)
        optimiser.load_state_dict(state["optimizer"])
        random_states = [state["rng"], *state.get(OF_OTHERS, ())]
        if self.group.rank < len(random_states):
            dev.set_rng_state(random_states[self.group.rank])
        else:
            self.group.seed_dropout(self.seed, state["step"])
        if len(random_states) != self.group.size:
            numbers = f"by {self.group.size} processes after {len(random_states)}"
            self.note(f"continued at step {state['step']} {numbers}, with other random numbers for dropout")
        waited = state.get("data_wait_seconds", 0.0)
        return TrainingProgress(state["step"], state["examples"], state["step_seconds"].tolist(), waited)

    def _usable_state(self, model: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> dict[str, Any] | None:
        """Return the content of the file, verified; None where there is none, or none that can be used."""
        if not (self.path.exists() or self.path.is_symlink()):
            return None
        try:
            state = self._read()
            self._verify(state, model, optimiser, steps)
        except Unusable as fault:
            self.reject(str(fault))
            return None
        return state

    def _read(self) -> dict[str, Any]:
        try:
            require_regular_file(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # torch.load raises errors of many kinds for broken files, and for code in them
            if isinstance(error, OSError) and error.errno not in NO_FILE:
                raise  # such as a missing permission: no fault of the file
            raise Unusable(f"cannot be read ({type(error).__name__}: {one_line(error)[:120]})") from error
        if not isinstance(state, dict):
            raise Unusable(f"holds {type(state).__name__}, expected the fields of a checkpoint")
        if different_keys := (state.keys() - ADDED) ^ KEYS:
            different = ", ".join(sorted(map(str, different_keys)))
            raise Unusable(f"its fields are not those of a checkpoint of this version: {different}")
        return state

    def _verify(self, state: dict[str, Any], model: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> None:
        """Raise Unusable with what is wrong with the content of a checkpoint."""
        if state["run"] != self.run:
            raise Unusable(f"is of the run {state['run']}")
        if not isinstance(state["fingerprints"], dict):
            raise Unusable("has no fingerprints")
        if lines := differences(state["fingerprints"], self.fingerprints):
            raise Unusable(f"was made of something else: {summary(lines)}")
        step, examples, seconds = state["step"], state["examples"], state["step_seconds"]
        if type(step) is not int or not 0 < step <= steps:
            raise Unusable(f"has made {step!r} updates, which is not between 1 and {steps}")
        if type(examples) is not int or examples < 0:
            raise Unusable(f"has seen {examples!r} examples")
        if not isinstance(seconds, Tensor) or seconds.shape != (step,):
            raise Unusable(f"has no {step} times of updates")
        waited = state.get("data_wait_seconds", 0.0)
        if type(waited) is not float or not 0 <= waited < math.inf:
            raise Unusable(f"has waited {waited!r} seconds for data")
        _verify_tensors("tensor", state["tensors"], changing_tensors(model))
        _verify_optimizer(state["optimizer"], optimiser)
        others = state.get(OF_OTHERS, [])
        if not isinstance(others, list):
            raise Unusable("has no states of the random generators")
        for random_state in (state["rng"], *others):
            _verify_random_state(random_state)


def changing_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes: trained parameters, and buffers in which a method keeps count."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if name.startswith("pet.")}


def _verify_tensors(kind: str, tensors: Any, expected: Mapping[Any, Tensor]) -> None:
    """Raise Unusable unless there are exactly the expected tensors, alike in shape and type, and finite."""
    if not isinstance(tensors, dict) or tensors.keys() != expected.keys():
        names = tensors.keys() if isinstance(tensors, dict) else set()
        different = sorted(map(str, names ^ expected.keys()))
        raise Unusable(f"does not have exactly the {kind}s of this run: {', '.join(different[:4])}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or (tensor.shape, tensor.dtype) != (
            expected[name].shape,
            expected[name].dtype,
        ):
            raise Unusable(f"{kind} {name} is not of shape {list(expected[name].shape)} and {expected[name].dtype}")
        if not torch.isfinite(tensor).all():
            raise Unusable(f"{kind} {name} has values that are not finite")


def _verify_optimizer(state: Any, optimiser: torch.optim.Optimizer) -> None:
    """Raise Unusable unless it is the state of this optimiser: its groups and settings, and finite numbers."""
    current = optimiser.state_dict()
    if not isinstance(state, dict) or state.keys() != current.keys() or not isinstance(state["state"], dict):
        raise Unusable("has no state of the optimiser")
    settings = [{key: value for key, value in group.items() if key != "lr"} for group in current["param_groups"]]
    groups = state["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise Unusable("has no parameter groups of the optimiser")
    if [{key: value for key, value in group.items() if key != "lr"} for group in groups] != settings:
        raise Unusable("is of another optimiser: its parameter groups differ")
    if not state["state"]:
        raise Unusable("has no state of the optimiser")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, values in state["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(parameters) or not isinstance(values, dict):
            raise Unusable("has a state of the optimiser for a parameter that is not there")
        for name, value in values.items():
            if not isinstance(value, Tensor | int | float):
                raise Unusable(f"the optimiser's {name} is {type(value).__name__}")
            finite = torch.isfinite(value).all() if isinstance(value, Tensor) else math.isfinite(value)
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[index].shape:
                raise Unusable(f"the optimiser's {name} has another shape than its parameter")
            if not finite:
                raise Unusable(f"the optimiser's {name} has values that are not finite")


def _verify_random_state(state: Any) -> None:
    """Raise Unusable unless it is what :func:`bench.device.rng_state` returns."""
    current = dev.rng_state()
    if not isinstance(state, dict) or state.keys() != current.keys() or not isinstance(state["cuda"], list | tuple):
        raise Unusable("has no states of the random generators")
    for tensor in (state["cpu"], *state["cuda"]):
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8:
            raise Unusable("has no states of the random generators")
    if state["cpu"].shape != current["cpu"].shape:
        raise Unusable("has a state of the random generator of another length")
