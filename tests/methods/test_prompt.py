"""The soft prompt: a joint encoder written out from the formulas, and what decoder and tasks see of it."""

import math
from typing import Any

import pytest
import torch
from tiny_models import VOCAB, batch, language_model, perturb, wrapper
from torch import Tensor
from written_out import bart_layer, layer_norm, layers, rms, t5_layer

import methods
from methods import MethodError

LENGTH, MID = 12, 16  # long enough for T5's logarithmic buckets


def unchanged(point: str, x: Tensor, h: Tensor, normed: Tensor) -> Tensor:
    return h


def bucket(distance: int) -> int:
    """T5's bucket of "key minus query" in an encoder: 16 a direction, exact below 8, then logarithmic up to 128."""
    far = abs(distance)
    if far >= 8:
        far = min(8 + int(math.log(far / 8) / math.log(128 / 8) * 8), 15)
    return far + 16 * (distance > 0)


def prompt_of(module: Any) -> Tensor:
    """W_2 · tanh(W_1 · E + b_1) + b_2."""
    hidden = torch.tanh(module.embedding @ module.down.weight.T + module.down.bias)
    return hidden @ module.up.weight.T + module.up.bias


def written(model: Any, ids: Tensor, visual: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder states of ``[prompt ; text ; visual]`` and the mask of their tokens."""
    encoder, config, (b, t), v = model.lm.get_encoder(), model.lm.config, ids.shape, visual.shape[1]
    words = model.lm.get_input_embeddings().weight[ids]
    front = prompt.expand(b, -1, -1)
    mask = torch.cat([torch.ones(b, len(prompt)), (ids != config.pad_token_id).float(), torch.ones(b, v)], dim=1)
    hidden = (1 - mask)[:, None, None] * -1e9
    if model.family == "bart":
        places = torch.stack([encoder.embed_positions.weight[i + 2] for i in range(t)])  # text starts at 0
        x = torch.cat([layer_norm(torch.cat([front, words + places], 1), encoder.layernorm_embedding), visual], 1)
        for layer in layers(model.lm, "enc"):
            x = bart_layer(layer, x, None, hidden, unchanged)
        return x, mask
    x = torch.cat([front, words, visual], dim=1)
    table = layers(model.lm, "enc")[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias = torch.zeros(1, config.num_heads, x.shape[1], x.shape[1])
    for query in range(len(prompt) + t):
        for key in range(len(prompt) + t):
            bias[0, :, query, key] = table[bucket(key - query)]
    for layer in layers(model.lm, "enc"):
        x = t5_layer(layer, x, None, hidden + bias, unchanged)
    return rms(x, encoder.final_layer_norm), mask


@pytest.fixture
def model(family):
    model = wrapper(family)
    methods.attach(model, methods.get("prompt", length=LENGTH, mid=MID))
    perturb(model.pet, 0.3)
    return model


@torch.no_grad()
def test_the_joint_encoder_is_the_formula(model):
    given = batch()
    ids = given["input_ids"].clone()
    ids[1, 4:] = model.lm.config.pad_token_id
    visual = model.visual_embedding(given["vis_feats"], given["boxes"])
    states, mask = model.encode(ids, given["vis_feats"], given["boxes"])
    wanted, seen = written(model, ids, visual, prompt_of(model.pet["input"].prompt))
    assert torch.equal(mask.float(), seen)
    torch.testing.assert_close(states.last_hidden_state[seen > 0], wanted[seen > 0], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_the_decoder_attends_to_the_prompt(model):
    """Logits are those of the language model on the written-out states, prompt and all; generation follows."""
    given = batch()
    visual = model.visual_embedding(given["vis_feats"], given["boxes"])
    states, mask = written(model, given["input_ids"], visual, prompt_of(model.pet["input"].prompt))
    start = torch.full((3, 1), model.lm.config.decoder_start_token_id)
    said = [start]
    for _ in range(4):
        logits = model.lm(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=torch.cat(said, 1)).logits
        going_on = logits[:, -1:].index_fill(-1, torch.tensor([model.lm.config.eos_token_id]), -torch.inf)
        said.append(going_on.argmax(-1))
    told = model(given["input_ids"], given["vis_feats"], given["boxes"], decoder_input_ids=torch.cat(said[:-1], 1))
    torch.testing.assert_close(told.logits, logits, atol=5e-5, rtol=1e-5)
    four = {"min_new_tokens": 4, "max_new_tokens": 4, "forced_eos_token_id": None}
    found = model.generate(given["input_ids"], given["vis_feats"], given["boxes"], **four)
    assert torch.equal(found, torch.cat(said, 1))
    short = model.lm(encoder_outputs=(states[:, LENGTH:],), attention_mask=mask[:, LENGTH:], decoder_input_ids=start)
    assert not torch.allclose(short.logits[:, 0], told.logits[:, 0], atol=1e-4)


@torch.no_grad()
def test_each_task_has_its_own(family):
    model = wrapper(family)
    handle = methods.attach(model, methods.get("prompt-multiple", length=LENGTH, mid=MID), tasks=("vqa", "gqa"))
    perturb(model.pet, 0.3)
    given = batch()
    visual = model.visual_embedding(given["vis_feats"], given["boxes"])
    for task in ("vqa", "gqa"):
        wanted, _ = written(model, given["input_ids"], visual, prompt_of(model.pet["input"].prompt[task]))
        states = model(**given, task=task).encoder_last_hidden_state
        torch.testing.assert_close(states, wanted, atol=2e-5, rtol=1e-5)
    d = model.lm.config.d_model
    assert handle.count().new == 2 * (LENGTH * d + (d * MID + MID) + (MID * d + d))


def test_a_bare_language_model_cannot_have_it(family):
    lm = language_model(family)
    with pytest.raises(MethodError, match="joint input of a vision-language wrapper"):
        methods.attach(lm, "prompt")
    assert not hasattr(lm, "pet") and all(p.requires_grad for p in lm.parameters())


def test_text_longer_than_the_positions_leave_is_what_counts_on_bart():
    """The prompt takes no position: a text as long as the table still fits behind it."""
    model = wrapper("bart")
    methods.attach(model, methods.get("prompt", length=LENGTH, mid=MID))
    ids = torch.randint(4, VOCAB, (1, model.lm.config.max_position_embeddings))
    assert model(ids, batch()["vis_feats"][:1]).logits.isfinite().all()
