"""From which values new layers start on a backbone family.

A method's layers with ``init="backbone"`` start as they did, in effect, in VL-PET's official code, which differs by
backbone family: its BART drew every Linear anew as N(0, 0.02²) with zero biases and its embeddings as N(0, 0.02²),
while its T5 left torch's defaults, which are N(0, 1) for embeddings.
"""

from typing import Any

from methods.blocks.layer_factory import LayerFactory

START_RULES: dict[str, dict[str, Any]] = {
    "bart": {"linear_init": "normal", "table_std": 0.02},
    "t5": {"linear_init": "torch", "table_std": 1.0},
}


def layer_factory(family: str, reference: Any, tasks: tuple[str, ...] = ()) -> LayerFactory:
    """Return a factory with the start rules of backbone family ``family``, on the device and in the dtype of the tensor
    ``reference``; ``tasks`` are those for which modules per task are made."""
    return LayerFactory(reference.device, reference.dtype, tasks=tasks, **START_RULES[family])
