"""What the parts of a method compute from training data before they are attached."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from methods.core.contracts import TrainingBatch
from methods.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def prepare(model: Any, spec: Spec, examples: Callable[[int], Iterator[TrainingBatch]]) -> dict[str, "Tensor"]:
    """Call every part that needs training data, and return the results as :func:`methods.attach` takes them.

    Args:
        model: the model as it is before the method is attached.
        spec: the method.
        examples: ``examples(n)`` yields at most n batches of one example each, the same whenever it is called.

    Raises:
        MethodError: the method does not fit the model.
    """
    prepared: dict[str, Tensor] = {}
    for index, part in enumerate(spec.parts):
        if part.training_examples:
            tensors = part.prepare(model, examples(part.training_examples))
            prepared |= {f"{index}.{name}": tensor for name, tensor in tensors.items()}
    return prepared


def of_part(prepared: Mapping[str, "Tensor"], index: int) -> dict[str, "Tensor"]:
    """Return what part ``index`` of a spec has computed, under its own names."""
    prefix = f"{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in prepared.items() if name.startswith(prefix)}
