"""Parameter-efficient tuning methods for BART and T5, alone or in a vision-language wrapper.

>>> import methods
>>> methods.get("vl-pet-middle").name
'vl-pet-middleX'

``methods.attach(model, "vl-pet-large")`` freezes a model, puts the method in place and returns a
:class:`~methods.core.handle.Handle` that counts, saves, loads and detaches. Everything is imported on first use, so
that ``import methods`` costs nothing; only ``attach`` needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.core.attach import attach
    from methods.core.errors import MethodError, did_you_mean
    from methods.core.explain import explain
    from methods.core.handle import Count, Handle
    from methods.core.registry import OptimizerSettings, Rank, ResolvedMethod, get, method, names
    from methods.core.shape import Shape
    from methods.core.spec import Spec

_HOME = {
    "names": "core.registry",
    "get": "core.registry",
    "method": "core.registry",
    "ResolvedMethod": "core.registry",
    "OptimizerSettings": "core.registry",
    "Rank": "core.registry",
    "attach": "core.attach",
    "Handle": "core.handle",
    "Count": "core.handle",
    "explain": "core.explain",
    "Shape": "core.shape",
    "Spec": "core.spec",
    "MethodError": "core.errors",
    "did_you_mean": "core.errors",
}

__all__ = [
    "Count",
    "Handle",
    "MethodError",
    "OptimizerSettings",
    "Rank",
    "ResolvedMethod",
    "Shape",
    "Spec",
    "attach",
    "did_you_mean",
    "explain",
    "get",
    "method",
    "names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'methods' has no attribute {name!r}")
    return getattr(import_module(f"methods.{_HOME[name]}"), name)
