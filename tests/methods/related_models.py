"""Tiny models with a related method, and what stands at its sites while they run."""

import pytest
import torch
from tiny_models import config, perturb
from torch import Tensor

import methods
from bench import backbones

FEATS = 5
CLOSE = {"atol": 3e-6, "rtol": 1e-5}
RELATED = {
    "clipfit": {},
    "clipfit distilled": {"distill": 8.0},
    "adem-vl": {"grids": (3, 1), "beta": 1.0, "alpha": 0.3},
    "adem-vl encoder": {"grids": (3, 1), "beta": 1.0, "alpha": 0.3, "at": ("enc.ff.out",)},
    "uniadapter": {"rank": 8},
    "uniadapter plain": {"rank": 8, "cross_modal": False, "query_residual": False},
    "read": {},
    "read near zero": {"gelu": True, "start": "near-zero", "rank": 3},
    "grasp-vl": {"rank": 2, "lengths": ()},
}
each = pytest.mark.parametrize("name", RELATED)


def chosen(name: str) -> methods.ResolvedMethod:
    return methods.get(name.split()[0], **RELATED[name])


def model(family: str, *, n_boxes: int = 9, **changes):
    """A tiny vision-language model in eval mode, nothing of it neutral."""
    torch.manual_seed(0)
    built = backbones.build(config(family, **changes), feat_dim=FEATS, n_boxes=n_boxes).eval()
    perturb(built, 0.1)
    return built


def attached(family: str, name: str, **changes):
    """One with the method, moved from its start."""
    built = model(family, **changes)
    handle = methods.attach(built, chosen(name))
    torch.manual_seed(1)
    perturb(built.pet, 0.2)
    return built, handle


def text(rows: int = 2, length: int = 6) -> Tensor:
    return torch.randint(5, 20, (rows, length), generator=torch.Generator().manual_seed(1))


def seen(rows: int = 2, count: int = 9, images: int = 1) -> Tensor:
    shape = (rows, count, FEATS) if images == 1 else (rows, images, count, FEATS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def padded(ids: Tensor, kept: int, model) -> Tensor:
    """``ids`` with the first row cut to ``kept`` words."""
    ids = ids.clone()
    ids[0, kept:] = model.lm.config.pad_token_id
    return ids


def stack_layers(family: str, model, stack: str):
    if family == "bart":
        return getattr(model.lm.model, f"{stack}oder").layers
    return getattr(model.lm, f"{stack}oder").block


class Recorder:
    """What enters and leaves the FFN of every layer of a stack: X, what the FFN reads, its own output, the changed one;
    in the decoder also what enters cross-attention. Made before a method is attached; ``after`` is called then."""

    def __init__(self, family: str, model, stack: str) -> None:
        self.family, self.layers = family, list(stack_layers(family, model, stack))
        self.found: list[dict[str, Tensor]] = [{} for _ in self.layers]
        for layer, found in zip(self.layers, self.found, strict=True):
            self.out(layer).register_forward_hook(lambda m, a, out, found=found: found.update(h=out))
            inner = layer.fc1 if family == "bart" else layer.layer[-1].DenseReluDense
            inner.register_forward_pre_hook(lambda m, a, found=found: found.update(n=a[0]))
            around = layer.fc1 if family == "bart" else layer.layer[-1]
            around.register_forward_pre_hook(lambda m, a, found=found: found.update(x=a[0]))
            if stack == "dec":
                cross = layer.encoder_attn if family == "bart" else layer.layer[1]
                cross.register_forward_pre_hook(lambda m, a, found=found: found.update(q=a[0]))

    def out(self, layer):
        return layer.fc2 if self.family == "bart" else layer.layer[-1].DenseReluDense

    def after(self) -> None:
        for layer, found in zip(self.layers, self.found, strict=True):
            self.out(layer).register_forward_hook(lambda m, a, out, found=found: found.update(changed=out))

    def changes(self) -> list[Tensor]:
        return [found["changed"] - found["h"] for found in self.found]


def recorded(family: str, chosen: methods.ResolvedMethod, **changes):
    """A model with a method moved from its start, and recorders of both its stacks."""
    built = model(family, **changes)
    recorders = {stack: Recorder(family, built, stack) for stack in ("enc", "dec")}
    methods.attach(built, chosen)
    torch.manual_seed(1)
    perturb(built.pet, 0.2)
    for recorder in recorders.values():
        recorder.after()
    return built, recorders
