"""Full fine-tuning."""

from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Spec, Trainable


@method(
    "full",
    family="reference",
    # The VL-PET image-text script runs without task prefixes, the video-text and the T5 (LST) scripts with them.
    optim={
        "bart image-text": OptimizerSettings(1e-4, task_prefix=False),
        "bart": OptimizerSettings(3e-5),
        "t5": OptimizerSettings(1e-4),
    },
    order=0,
)
def full(shape: Shape) -> Spec:
    """Train everything: the shared embedding (tied to the LM head), both stacks with norms and positions, the
    projector.

    Learning rates: BART image-text and video-text from the VL-Adapter scripts, T5 from the LST script.
    """
    return Spec(trainable=Trainable(backbone=True))
