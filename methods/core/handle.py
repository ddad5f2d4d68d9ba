"""What one holds after attaching: count, save, load and detach."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.core.errors import MethodError, summarise_names
from methods.core.spec import Spec


@dataclass(frozen=True)
class Count:
    """Parameters of a model with a method, tied ones counted once.

    ``trainable`` = ``new`` (the method's) + ``unfrozen`` (of the language model) + ``projector`` (visual).
    """

    trainable: int
    total: int
    new: int
    unfrozen: int
    projector: int
    backbone: int

    @property
    def percent(self) -> float:
        """Trainable in % of all parameters, new ones included: the papers' figure."""
        return 100 * self.trainable / self.total

    @property
    def percent_of_backbone(self) -> float:
        """Trainable in % of the language model's own parameters."""
        return 100 * self.trainable / self.backbone


class Handle:
    """A method in a model. Made by :func:`methods.attach`."""

    def __init__(
        self,
        model: nn.Module,
        lm: nn.Module,
        spec: Spec,
        *,
        undo: list[Callable[[], None]],
        folds: list[Callable[[], None]],
        before: Mapping[nn.Parameter, bool],
    ) -> None:
        self.model = model
        self.spec = spec
        self._lm = lm
        self._undo = undo
        self._folds = folds
        self._before = before

    @property
    def _visual(self) -> nn.Module:
        return getattr(self.model, "visual_embedding", nn.Module())

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters by their first name in the model; tied ones once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def trainable_names(self) -> list[str]:
        """Names of the trained parameters, in the model's order."""
        return list(self.trained())

    def added(self) -> dict[str, nn.Parameter]:
        """The trained parameters that the model did not have before."""
        return {name: p for name, p in self.trained().items() if p not in self._before}

    def count(self) -> Count:
        """Count the parameters as they stand."""
        before = self._before.keys()
        backbone = {parameter for parameter in self._lm.parameters() if parameter in before}
        visual = set(self._visual.parameters()) - backbone
        trained = self.trained().values()
        new = sum(p.numel() for p in trained if p not in before and p not in visual)
        unfrozen = sum(p.numel() for p in trained if p in backbone)
        trainable = sum(p.numel() for p in trained)
        return Count(
            trainable=trainable,
            total=sum(p.numel() for p in self.model.parameters()),
            new=new,
            unfrozen=unfrozen,
            projector=trainable - new - unfrozen,
            backbone=sum(p.numel() for p in backbone),
        )

    def save(self, path: str | Path) -> None:
        """Write the trained tensors, and only them, to a safetensors file; the spec goes into its metadata.

        The file appears complete or not at all.
        """
        path = Path(path)
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.trained().items()}
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.touch()
            mode = unfinished.stat().st_mode  # what the umask allows; save_file replaces the file by one for us alone
            save_file(tensors, unfinished, metadata={"spec": self._spec()})
            unfinished.chmod(mode)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def load(self, path: str | Path) -> None:
        """Read what :meth:`save` wrote into this model.

        Raises MethodError, with the model as it was, where the file is not one, was saved from another spec, or does
        not hold exactly the trained tensors in their shapes.
        """
        try:
            with safe_open(path, framework="pt") as file:
                saved_spec = (file.metadata() or {}).get("spec")
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise MethodError(f"{path}: not a readable safetensors file ({error})") from error
        wanted = self.trained()
        shapes = [
            f"{name} has shape {list(tensors[name].shape)}, the model {list(wanted[name].shape)}"
            for name in wanted
            if name in tensors and tensors[name].shape != wanted[name].shape
        ]
        faults = [
            *summarise_names("missing", [name for name in wanted if name not in tensors], limit=4),
            *summarise_names("left over", [name for name in tensors if name not in wanted], limit=4),
            *summarise_names("of another shape", shapes, limit=4),
        ]
        if faults:
            raise MethodError(f"{path} does not fit the attached method: {'; '.join(faults)}")
        if saved_spec is not None and saved_spec != self._spec():
            raise MethodError(f"{path} was saved from another method: {saved_spec}; attached is {self._spec()}")
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(tensors[name])

    def merge(self) -> None:
        """Fold the method into the model's own weights and detach: the same function, in evaluation, at no extra cost.

        Raises MethodError, with the model as it was, for a method with a part that no change of weights can stand for.
        """
        stuck = [part.formula.splitlines()[0] for part in self.spec.parts if not part.merges]
        if self.spec.projector.train == "lowrank":
            stuck.append("a low-rank projector, which stands in the place of the model's own")
        if stuck:
            raise MethodError(f"this method cannot be merged into the backbone's weights: {'; '.join(stuck)}")
        with torch.no_grad():
            for fold in self._folds:
                fold()
        self.detach()

    def export_peft(self, folder: str | Path) -> None:
        """Write the method to a folder from which HF's ``PeftModel.from_pretrained(language_model, folder)`` reads it.

        What is trained outside the language model, the visual projector, is *not* in it: that stays with :meth:`save`.

        Raises MethodError for a method that PEFT's format cannot hold; it can hold ``peft:*``, and of our own ``lora``
        and ``ia3`` with one set of weights for all tasks.
        """
        from methods.core.peft_export import export

        export(self, self._lm, Path(folder))

    def detach(self) -> None:
        """Take the method's modules and hooks out and give every parameter its ``requires_grad`` back.

        Tensors of the model itself that were trained in place (norms, biases, the projector) stay as trained; with a
        method that only adds modules the model is bit for bit the one before attaching.
        """
        self._folds.clear()
        while self._undo:
            self._undo.pop()()
        if hasattr(self.model, "pet"):
            del self.model.pet
        for parameter, requires_grad in self._before.items():
            parameter.requires_grad_(requires_grad)

    def _spec(self) -> str:
        return json.dumps(self.spec.data(), sort_keys=True)
