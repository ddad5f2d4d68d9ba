"""IA3 (Liu et al., 2022): a trained factor per channel of keys, values and the FFN's middle."""

from methods.registry import Optim, method
from methods.shape import Shape
from methods.spec import SITES, Gate, Patch, Spec

SCALED = tuple(site for site in SITES if site.endswith((".k", ".v", "ff.mid")))


@method("ia3", optim={"bart": Optim(3e-3), "t5": Optim(3e-3)}, order=22)
def ia3(shape: Shape) -> Spec:
    """``l ⊙ k``, ``l ⊙ v`` and ``l ⊙ middle`` in every layer of both stacks, all l at 1 in the beginning.

    No published run on VL-BART or VL-T5; factors want a higher learning rate than matrices, 3e-3 as in the IA3 paper.
    """
    factor = Gate(kind="vector", out="channel", squash="none", init="ones")
    return Spec(parts=(Patch(at=SCALED, gate=factor),))
