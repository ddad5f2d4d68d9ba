"""Parameter-efficient tuning methods for BART and T5, alone or in a vision-language wrapper.

>>> import methods
>>> methods.get("vl-pet-middle").name
'vl-pet-middleX'

``methods.attach(model, "vl-pet-large")`` freezes a model, puts the method in place and returns a
:class:`~methods.handle.Handle` that counts, saves, loads and detaches. Everything is imported on first use, so that
``import methods`` costs nothing; only ``attach`` needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.errors import MethodError, did_you_mean
    from methods.handle import Count, Handle
    from methods.layout import explain
    from methods.place import attach
    from methods.registry import Chosen, Optim, Rank, get, method, names
    from methods.shape import Shape
    from methods.spec import Spec

_HOME = {
    "names": "registry",
    "get": "registry",
    "method": "registry",
    "Chosen": "registry",
    "Optim": "registry",
    "Rank": "registry",
    "attach": "place",
    "Handle": "handle",
    "Count": "handle",
    "explain": "layout",
    "Shape": "shape",
    "Spec": "spec",
    "MethodError": "errors",
    "did_you_mean": "errors",
}

__all__ = [
    "Chosen",
    "Count",
    "Handle",
    "MethodError",
    "Optim",
    "Rank",
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
