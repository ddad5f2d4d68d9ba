"""Tiny backbones whose every parameter is perturbed, and a plain wrapper that gives them eyes."""

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

import methods
from methods import Shape

SHAPE = Shape("t5", d=32, ff=48, heads=4, inner=48, encoder_layers=2, decoder_layers=2, vocab=60)
FAMILIES = ("bart", "t5")
VOCAB = 60
ONE_TASK = ("vqa",)
BARE = [name for name in methods.names() if not any(p.wrapped for p in methods.get(name).spec(SHAPE).parts)]
"""Methods that a language model without a wrapper can have."""


def config(family: str, **changes):
    if family == "bart":
        sizes = dict(
            vocab_size=VOCAB, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=40, dropout=0.0,
        )  # fmt: skip
        return BartConfig(**(sizes | changes))
    sizes = dict(vocab_size=VOCAB, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
    return T5Config(**(sizes | dict(decoder_start_token_id=0) | changes))


def language_model(family: str, **changes):
    """A tiny random BART or T5 in eval mode. T5's query width (48) differs from its width (32)."""
    torch.manual_seed(0)
    cls = BartForConditionalGeneration if family == "bart" else T5ForConditionalGeneration
    model = cls(config(family, **changes)).eval()
    perturb(model, 0.05)
    return model


def perturb(module: nn.Module, std: float) -> None:
    """Move every parameter, so that nothing is neutral."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


def attach_moved(model: nn.Module, method, std: float):
    """Attach a method and move every new trained parameter, wherever it stands."""
    handle = methods.attach(model, method)
    with torch.no_grad():
        for parameter in handle.added().values():
            parameter.add_(torch.randn_like(parameter) * std)
    return handle


class Projector(nn.Module):
    """A visual projector with the official parameters: features, boxes, image order; object order borrows words."""

    def __init__(self, lm, feat_dim: int) -> None:
        super().__init__()
        d = lm.config.d_model
        norm = nn.LayerNorm if lm.config.model_type == "bart" else T5LayerNorm
        self.feat = nn.Sequential(nn.Linear(feat_dim, d), norm(d))
        self.box = nn.Sequential(nn.Linear(5, d), norm(d))
        self.image_order = nn.Embedding(2, d)
        self.object_order = lm.get_input_embeddings()

    def forward(self, feats: Tensor, boxes: Tensor) -> Tensor:
        order = self.object_order.weight[-feats.shape[1] :].flip(0)
        return self.feat(feats) + self.box(boxes) + self.image_order.weight[0] + order


class Wrapper(nn.Module):
    """Language model plus projector; the two attributes are what ``attach`` knows a wrapper by."""

    def __init__(self, lm, feat_dim: int = 24) -> None:
        super().__init__()
        self.lm = lm
        self.visual_embedding = Projector(lm, feat_dim)

    def forward(self, input_ids: Tensor, feats: Tensor, boxes: Tensor, labels: Tensor):
        text = self.lm.get_input_embeddings()(input_ids)
        joint = torch.cat([text, self.visual_embedding(feats, boxes)], dim=1)
        return self.lm(inputs_embeds=joint, attention_mask=torch.ones(joint.shape[:2]), labels=labels)


def wrapper(family: str, **changes) -> Wrapper:
    model = Wrapper(language_model(family, **changes)).eval()
    perturb(model.visual_embedding.feat, 0.05)
    return model


def batch(n: int = 3, length: int = 7, target: int = 5, visual: int = 4) -> dict[str, Tensor]:
    """Inputs of a wrapper."""
    g = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(4, VOCAB, (n, length), generator=g),
        "feats": torch.randn(n, visual, 24, generator=g),
        "boxes": torch.rand(n, visual, 5, generator=g),
        "labels": torch.randint(4, VOCAB, (n, target), generator=g),
    }


def text(n: int = 3, length: int = 7, target: int = 5) -> dict[str, Tensor]:
    """Inputs of a bare language model."""
    return {key: value for key, value in batch(n, length, target).items() if key in ("input_ids", "labels")}
