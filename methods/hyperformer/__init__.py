"""HyperFormer (Mahabadi et al., 2021) in the form of VL-Adapter: adapters generated per task and layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from methods.core.options import Norms, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec, Trainable
from methods.vl_adapter import SITES

if TYPE_CHECKING:
    from methods.core.placement import Placement


class HyperFormer(Part):
    """``H + W_up · gelu(W_down · H)`` after every block, with weights that a network per stack generates.

    ``c = LN(P_2 · relu(P_1 · [v ; l]))`` from a vector v of the task and l of the layer, both of width ``task_dim``,
    P_1 to ``hidden``, P_2 to ``e``; for every kind of block, Linears from c give weights and biases. Both stacks share
    the task vectors; everything else belongs to one stack, whose layers and tasks share it.
    """

    r: int = Field(ge=1)
    task_dim: int = Field(ge=1)
    hidden: int = Field(ge=1)
    e: int = Field(ge=2)  # the norm of a single number is constant, whatever task and layer

    @property
    def per_task(self) -> bool:
        """True: the weights are generated from the task."""
        return True

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """The norm on c is not decayed: the official code calls it ``LayerNorm``."""
        return {"norm.weight": False}

    def place(self, placement: "Placement") -> None:
        """Build a generator per stack and the adapters that read their weights from it."""
        from methods.blocks.patched_site import PatchedSite
        from methods.core.patching import place_site
        from methods.hyperformer.generator import GeneratedAdapter, TaskVectors, WeightGenerator

        make, shape = placement.make, placement.sites.shape
        tasks = TaskVectors(make.tasks, self.task_dim, make)
        placement.add_module("tasks", tasks)
        for stack, layers in (("enc", shape.encoder_layers), ("dec", shape.decoder_layers)):
            sites = [site for site in SITES if site.startswith(stack)]
            blocks = [site.split(".")[1] for site in sites]
            generator = WeightGenerator(
                tasks,
                blocks,
                layers,
                shape.d,
                r=self.r,
                task_dim=self.task_dim,
                hidden=self.hidden,
                e=self.e,
                make=make,
            )
            placement.add_module(f"{stack}_generator", generator)
            for site, block in zip(sites, blocks, strict=True):
                for port in placement.sites.ports(site):
                    module = PatchedSite(GeneratedAdapter(generator, block, port.index))
                    place_site(placement, port, module, needs_context=True)


# The VL-Adapter image-text script; the other rates, which no script gives, are those of VL-Adapter's adapter.
@method(
    "hyperformer",
    family="adapter",
    t5={"norms": "none"},
    optim={
        "bart image-text": OptimizerSettings(1e-3, task_prefix=False),
        "bart video-text": OptimizerSettings(3e-4, task_prefix=False),
        "t5": OptimizerSettings(3e-4, task_prefix=False),
    },
    order=13,
)
def hyperformer(
    shape: Shape, *, rank: Rank = 96, task_dim: Rank = 512, hidden: Rank = 128, e: int = 8, norms: Norms = "all"
) -> Spec:
    """VL-Adapter's adapters with weights generated from task and layer, and all norms (5.79 % of BART-base).

    Every task's adapters come from the same networks and differ by the task's vector alone. Task prefixes are off. On
    T5 the norms stay frozen, as in VL-Adapter's code there.
    """
    part = HyperFormer(r=rank, task_dim=task_dim, hidden=hidden, e=e)
    return Spec(parts=(part,), trainable=Trainable(norms=joined(norms)))
