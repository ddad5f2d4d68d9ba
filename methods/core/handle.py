"""What a method in a model can be asked for: counting, saving, loading, merging, exporting and detaching."""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.core.contracts import Penalty, UpdateListener
from methods.core.errors import MethodError, summarise_names
from methods.core.peft_export import export_own, write
from methods.core.placement import Placement
from methods.core.spec import Spec

WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and its relatives, and of torch.compile


@dataclass(frozen=True)
class Count:
    """Numbers of parameters of a model with a method, tied ones counted once.

    Attributes:
        trainable: trained parameters: ``new`` + ``unfrozen`` + ``projector``.
        total: all parameters, those of the method included.
        new: trained parameters that the method added.
        unfrozen: trained parameters of the language model itself.
        projector: trained parameters of the visual projector.
        backbone: parameters of the language model before the method was attached.
    """

    trainable: int
    total: int
    new: int
    unfrozen: int
    projector: int
    backbone: int

    @property
    def percent(self) -> float:
        """Trainable parameters in % of all parameters, new ones included: the figure that the papers give."""
        return 100 * self.trainable / self.total

    @property
    def percent_of_backbone(self) -> float:
        """Trainable parameters in % of those that the language model had before."""
        return 100 * self.trainable / self.backbone


class Handle:
    """A method in a model. Made by :func:`methods.attach`.

    Attributes:
        model: the model that the method is attached to.
        spec: the method.
        penalties: modules whose ``penalty()`` training adds to the loss (:class:`~methods.core.contracts.Penalty`).
        update_listeners: modules that training calls after every update
            (:class:`~methods.core.contracts.UpdateListener`).
    """

    def __init__(
        self,
        model: nn.Module,
        lm: nn.Module,
        spec: Spec,
        placement: Placement,
        *,
        undo: list[Callable[[], None]],
        before: Mapping[nn.Parameter, bool],
        decay: Mapping[nn.Parameter, bool],
    ) -> None:
        self.model = model
        self.spec = spec
        self.penalties: tuple[Penalty, ...] = tuple(placement.penalties)
        self.update_listeners: tuple[UpdateListener, ...] = tuple(placement.update_listeners)
        self._lm = lm
        self._peft_export = placement.peft_export
        self._diagnostics = placement.diagnostics
        self._merge_steps = placement.merge_steps
        self._undo = undo
        self._before = before
        self._decay = decay

    @property
    def _visual(self) -> nn.Module:
        return getattr(self.model, "visual_embedding", nn.Module())

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name; tied ones once, under their first name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def trainable_names(self) -> list[str]:
        """Return the names of the trained parameters, in the model's order."""
        return list(self.trained())

    def added(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters that the model did not have before, by name."""
        return {name: p for name, p in self.trained().items() if p not in self._before}

    def official_decay(self) -> dict[str, bool]:
        """Return, by name, the trained parameters of which a part states whether the official code decays them; it goes
        by name for the others (:attr:`methods.core.part.Part.official_decay`)."""
        return {name: self._decay[p] for name, p in self.trained().items() if p in self._decay}

    def count(self) -> Count:
        """Count the parameters of the model as it is now."""
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

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers that the method's modules report about their state
        (:class:`~methods.core.contracts.Diagnostics`); none on the meta device, where tensors have no values."""
        if next(self._lm.parameters()).is_meta:
            return {}
        return {name: value for module in self._diagnostics for name, value in module.diagnostics().items()}

    def save(self, path: str | Path) -> None:
        """Write the trained tensors, and only them, to a safetensors file with the spec in its metadata.

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
        """Copy the tensors of a file that :meth:`save` wrote into this model.

        Prefixes that every name has because the model was wrapped or compiled when it was saved (``module.``,
        ``_orig_mod.``) are taken off, with a warning.

        Raises:
            MethodError: the file cannot be read, was saved from another spec, or does not hold exactly the trained
                tensors in their shapes and as finite floating-point numbers. The model is as it was.
        """
        try:
            with safe_open(path, framework="pt") as file:
                saved_spec = (file.metadata() or {}).get("spec")
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise MethodError(f"{path}: not a readable safetensors file ({error})") from error
        trained = self.trained()
        prefix, tensors = without_wrapper_prefix(tensors)
        if prefix:
            warnings.warn(f"{path}: the names begin with {prefix!r}, which was taken off", stacklevel=2)
        shapes = [
            f"{name} has shape {list(tensors[name].shape)}, the model {list(trained[name].shape)}"
            for name in trained
            if name in tensors and tensors[name].shape != trained[name].shape
        ]
        faults = [
            *summarise_names("missing", [name for name in trained if name not in tensors], limit=4),
            *summarise_names("left over", [name for name in tensors if name not in trained], limit=4),
            *summarise_names("of another shape", shapes, limit=4),
            *summarise_names("no floating-point numbers", [n for n, t in tensors.items() if not t.is_floating_point()]),
            *summarise_names("not finite", [name for name, t in tensors.items() if not torch.isfinite(t).all()]),
        ]
        if faults:
            raise MethodError(f"{path} does not fit the attached method: {'; '.join(faults)}")
        if saved_spec is not None and saved_spec != self._spec():
            raise MethodError(f"{path} was saved from another method: {saved_spec}; attached is {self._spec()}")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(tensors[name])

    def merge(self) -> None:
        """Fold the method into the model's own weights and detach it.

        In evaluation the model then computes what it did with the method, at the cost of the model without it.

        Raises:
            MethodError: some part of the method cannot be expressed by other weights. The model is as it was.
        """
        obstacles = [part.formula.splitlines()[0] for part in self.spec.parts if not part.mergeable]
        if self.spec.projector.train == "lowrank":
            obstacles.append("a low-rank projector, which stands in the place of the model's own")
        if obstacles:
            raise MethodError(f"this method cannot be merged into the backbone's weights: {'; '.join(obstacles)}")
        with torch.no_grad():
            for merge_step in self._merge_steps:
                merge_step()
        self.detach()

    def export_peft(self, folder: str | Path) -> None:
        """Write the method to a folder from which HF's ``PeftModel.from_pretrained(language_model, folder)`` reads it.

        What is trained outside of the language model, the visual projector, is *not* in it: use :meth:`save` for that.

        Raises:
            MethodError: PEFT's format cannot hold the method. It can hold ``peft:*``, and of the suite's own methods
                ``lora`` and ``ia3`` with one set of weights for all tasks.
        """
        if self._peft_export is not None:
            config, tensors = self._peft_export.peft_file()
        else:
            config, tensors = export_own(self.spec, self._lm, self.model.pet, set(self.added().values()))
        write(config, tensors, self._lm, Path(folder))

    def detach(self) -> None:
        """Remove the method's modules and hooks, and restore ``requires_grad`` of every parameter.

        Tensors of the model itself that were trained in place (norms, biases, the projector) stay as trained. After a
        method that only adds modules the model is bit for bit the one before attaching.
        """
        self.penalties = self.update_listeners = ()
        self._merge_steps.clear()
        self._diagnostics.clear()
        while self._undo:
            self._undo.pop()()
        if hasattr(self.model, "pet"):
            del self.model.pet
        for parameter, requires_grad in self._before.items():
            parameter.requires_grad_(requires_grad)

    def _spec(self) -> str:
        return json.dumps(self.spec.data(), sort_keys=True)


def without_wrapper_prefix(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Take off what ``torch.compile`` and wrappers for parallel training put in front of every name.

    >>> without_wrapper_prefix({"module._orig_mod.w": torch.zeros(1)})
    ('module._orig_mod.', {'w': tensor([0.])})
    """
    prefix = ""
    while tensors and (word := next((w for w in WRAPPER_PREFIXES if all(n.startswith(w) for n in tensors)), "")):
        prefix += word
        tensors = {name.removeprefix(word): tensor for name, tensor in tensors.items()}
    return prefix, dict(tensors)
