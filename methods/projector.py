"""The lower bound: only the visual projector, which every method trains."""

from methods.registry import Optim, method
from methods.shape import Shape
from methods.spec import Spec


@method("projector-only", optim={"bart": Optim(1e-3), "t5": Optim(1e-3)}, order=1)
def projector_only(shape: Shape) -> Spec:
    """Train the visual projector alone; what other methods score above this is their own.

    No published run exists; the learning rate is that of the single-module baselines.
    """
    return Spec()
