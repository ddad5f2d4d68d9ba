"""The lower bound: only the visual projector, which every method trains."""

from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Spec


@method(
    "projector-only",
    family="reference",
    optim={"bart": OptimizerSettings(1e-3), "t5": OptimizerSettings(1e-3)},
    order=1,
)
def projector_only(shape: Shape) -> Spec:
    """Train the visual projector alone: what another method scores beyond this is due to the method itself.

    No published run exists; the learning rate is that of the single-module baselines.
    """
    return Spec()
