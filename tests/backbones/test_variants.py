"""Checkpoints as they are published: the fields and weights of each variant's own files, at tiny sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_vl as tiny
import torch
from safetensors.torch import save_file
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

import methods
from bench import backbones
from bench.errors import UsageError
from bench.mini.tokenizers import TRAINERS

SENTENCES = ["what color is the cube ?", "true", "false", "a red cube beside a blue ball ."]
BART = {
    **{"model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 40},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
    **{"normalize_before": False, "add_final_layer_norm": False, "scale_embedding": False, "forced_eos_token_id": 2},
}
CNN = {
    **{"num_beams": 4, "min_length": 12, "max_length": 30, "length_penalty": 2.0, "no_repeat_ngram_size": 3},
    **{"forced_bos_token_id": 0, "early_stopping": True},
}
T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
T5 |= {"decoder_start_token_id": 0, "n_positions": 512, "relative_attention_num_buckets": 32}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 2, "num_heads": 3}

VARIANTS: dict[str, dict[str, Any]] = {
    "t5-base": T5 | {"task_specific_params": {"summarization": {"num_beams": 4}}},
    "t5-3b": T5 | {"d_kv": 16},
    "t5-v1_1-base and flan-t5-base": T5 | GATED,
    "bart-base": BART | {"num_beams": 4, "no_repeat_ngram_size": 3, "forced_bos_token_id": 0},
    "bart-large-cnn": BART | CNN,
    "distilbart-cnn-12-6": BART | CNN | {"encoder_layers": 3, "decoder_layers": 1},
}


def published(folder: Path, name: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a folder as a variant is published, and return it with its weights."""
    fields = dict(VARIANTS[name])
    family = fields["model_type"]
    hf = TRAINERS[f"mini-{family}"](SENTENCES)
    rows = len(hf)
    if "cnn" in name:  # there is a token more than rows: <mask>, the last one
        hf.add_special_tokens({"mask_token": "<last>"})
    elif family == "t5":
        rows += 28
    tokens = {f"{kind}_token_id": getattr(hf, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad")}
    fields |= {"vocab_size": rows} | {key: value for key, value in tokens.items() if value is not None}
    torch.manual_seed(0)
    lm: Any
    if family == "bart":
        lm = BartForConditionalGeneration(BartConfig(**fields))
        fields |= {"decoder_start_token_id": 2}
    else:
        lm = T5ForConditionalGeneration(T5Config(**fields))
    weights = {key: value.clone() for key, value in lm.state_dict().items()}
    weights = {key: value for key, value in weights.items() if "embed_tokens" not in key}
    if name == "bart-base":  # saved from the model without its output layer
        weights = {key.removeprefix("model."): value for key, value in weights.items() if key.startswith("model.")}
    elif family == "bart":
        del weights["lm_head.weight"]
    elif "tie_word_embeddings" in fields:
        weights["lm_head.weight"] = torch.randn_like(weights["lm_head.weight"])
    else:
        del weights["lm_head.weight"]
        weights["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    folder.mkdir()
    hf.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fields))
    return folder, weights


@pytest.mark.parametrize("name", VARIANTS)
def test_a_published_variant_is_built_trained_and_decoded(name: str, tmp_path: Path) -> None:
    folder, _ = published(tmp_path / "checkpoint", name)
    backbones.require_checkpoint(str(folder))
    model = backbones.build(str(folder), feat_dim=tiny.F)
    meta = backbones.build(str(folder), feat_dim=tiny.F, device="meta")
    assert sum(p.numel() for p in meta.parameters()) == sum(p.numel() for p in model.parameters())
    family, length = model.family, 8
    handle = methods.attach(model, methods.get("vl-pet-large"), tasks=("vqa",))
    loss = model.train()(tiny.text(family), tiny.features(), labels=tiny.text(family, length=3)).loss
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad) and handle.count().new
    arguments = backbones.generation_arguments(model, beams=2, max_length=length)
    ids = model.eval().generate(tiny.text(family), tiny.features(), **arguments)
    assert 1 < ids.shape[1] <= length  # min_length and max_length of the checkpoint's own files count for nothing


def test_an_output_layer_of_its_own_stays_one(tmp_path: Path) -> None:
    """T5 1.1 and Flan-T5: appending rows for new tokens must not tie what the files keep apart."""
    folder, weights = published(tmp_path / "checkpoint", "t5-v1_1-base and flan-t5-base")
    lm = backbones.build(str(folder), feat_dim=tiny.F).lm
    head, rows = lm.get_output_embeddings().weight, len(weights["shared.weight"])
    assert torch.equal(head[:rows], weights["lm_head.weight"])
    assert torch.equal(lm.get_input_embeddings().weight[:rows], weights["shared.weight"])
    states = torch.randn(5, lm.config.d_model)
    assert (states @ head.T).argmax(-1).max() < rows  # a new token is never the likeliest
    lm.save_pretrained(tmp_path / "again")
    backbones.tokenizer(str(folder)).hf_tokenizer.save_pretrained(tmp_path / "again")
    again = backbones.build(str(tmp_path / "again"), feat_dim=tiny.F).lm
    assert torch.equal(again.get_output_embeddings().weight, head)
    assert again.config.scale_decoder_outputs is False


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (T5 | {"tokenizer_class": "ByT5Tokenizer", "vocab_size": 384}, "ByT5 reads bytes"),
        (BART | {"normalize_before": True}, "normalize_before is true"),
        (BART | {"decoder_ffn_dim": 64}, "encoder_ffn_dim is 48 and decoder_ffn_dim 64"),
        (BART | {"model_type": "mbart"}, "model_type 'mbart' is no backbone; known: bart, t5"),
        (T5 | {"model_type": "mt5"}, "model_type 'mt5' is no backbone"),
        (T5 | {"model_type": "nothing"}, "nothing"),
    ],
)
def test_what_is_no_backbone_is_refused_with_the_reason(fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UsageError, match=reason):
        backbones.shape(str(tmp_path))
