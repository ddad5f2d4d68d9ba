"""BitFit (Ben Zaken et al., 2022): train the biases only."""

from methods.core.errors import MethodError
from methods.core.options import Biases, joined
from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import DOWN, SITES, Bias, Patch, Spec, Trainable

# Every Linear, every norm and the output layer.
MODULES = tuple(site for site in SITES if site.split(".")[-1] in ("q", "k", "v", "o", "up", "ln", "head")) + DOWN


@method(
    "bitfit",
    family="scale and bias",
    t5={"add_missing": True},
    optim={"bart": OptimizerSettings(1e-3), "t5": OptimizerSettings(3e-3)},
    order=10,
)
def bitfit(shape: Shape, *, biases: Biases = "all", add_missing: bool = False) -> Spec:
    """Train every parameter with "bias" in its name, the norms' included: 1.21 % of BART-base (VL-PET's reading).

    T5 has no biases. There the published 0.83 % is LST's form, ``add_missing``: a new bias, zero at the start, at every
    attention and FFN Linear, every norm (those of the projector included) and the LM head; the relative position bias
    stays frozen. With ``add_missing=False`` T5 trains the relative position bias alone, as VL-PET's substring rule has
    it (0.70 %). Learning rates from the VL-PET (BART) and LST (T5) scripts.
    """
    if not add_missing:
        return Spec(trainable=Trainable(biases=joined(biases)))
    if shape.family != "t5":
        raise MethodError("add_missing is for T5; BART has a bias everywhere")
    if biases != "all":
        raise MethodError(f"add_missing puts a bias everywhere; leave biases at 'all', {biases!r} given")
    return Spec(parts=(Patch(at=MODULES, delta=Bias()),))
