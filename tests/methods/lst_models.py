"""Tiny models with a side network, and what masks look like for them."""

import torch
from tiny_models import config, perturb
from torch import Tensor

import methods
from bench import backbones
from bench.data.batches import Batch
from methods.core.preparation import prepare

FEATURES, PAD = 5, {"bart": 1, "t5": 0}


def vl(family, *, method="lst", std=0.2, **changes):
    """A tiny vision-language model with a side network, nothing of it neutral, in eval mode."""
    torch.manual_seed(0)
    model = backbones.build(config(family, **changes), feat_dim=FEATURES).eval()
    perturb(model, 0.1)
    model.handle = methods.attach(model, method)
    perturb(model.pet, std)
    return model


def batch(family, *, images=1, labels=True):
    """Three examples of up to 6 words, one of them padded, and 9 visual tokens an image."""
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 50, (3, 6), generator=g)
    ids[1, 4:] = PAD[family]
    shape = (3, 9, FEATURES) if images == 1 else (3, images, 9, FEATURES)
    feats, boxes = torch.randn(shape, generator=g), torch.rand(*shape[:-1], 4, generator=g)
    made = {"input_ids": ids, "vis_feats": feats, "boxes": boxes}
    return made | ({"labels": torch.randint(4, 50, (3, 5), generator=g)} if labels else {})


def one_by_one():
    """Examples of different lengths, as a part that needs data gets them."""
    g = torch.Generator().manual_seed(2)
    for length in (3, 5, 4):
        ids, labels = (torch.randint(4, 50, (1, count), generator=g) for count in (length, length - 1))
        yield Batch("vqa", [0], ids, labels, torch.zeros(1, 9, FEATURES), torch.ones(1), [length])


def prepared(model, start):
    """What a side network's start needs of the data, None where it needs none."""
    spec = methods.get("lst", side_init=start).spec(methods.Shape.of(model.lm.config))
    return prepare(model, spec, lambda count: one_by_one()) or None


def enable_checkpointing(model):
    getattr(model.lm, "activation_checkpointing_enable", model.lm.gradient_checkpointing_enable)()


def causal(length: int) -> Tensor:
    return torch.full((length, length), -1e9).triu(1)


def unseen(mask: Tensor) -> Tensor:
    return (1.0 - mask[:, None, None].float()) * -1e9
