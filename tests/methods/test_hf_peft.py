"""Methods of HF PEFT: on the miniature backbones through the wrapper, and against the library used by hand."""

import copy
import re
from typing import Any

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft_targets import QUERY_AND_VALUE, TARGETS
from tiny_models import attach_moved, language_model, text, wrapper
from torch import Tensor

import methods
from bench import backbones
from methods import MethodError

NAMES = [name for name in methods.names() if name.startswith("peft:")]


@pytest.fixture(scope="module", params=["mini-bart", "mini-t5"])
def shipped(request) -> Any:
    """A shipped backbone in its wrapper, without dropout."""
    model = backbones.build(request.param, feat_dim=32).eval()
    model.set_dropout(0.0)
    return model


@pytest.fixture
def mini(shipped) -> Any:
    return copy.deepcopy(shipped)


def inputs(model: Any, rows: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    draw = lambda length: torch.randint(5, 200, (rows, length), generator=g)  # noqa: E731
    feats, boxes = torch.randn(rows, 4, 32, generator=g), torch.rand(rows, 4, 4, generator=g)
    seen = {"vis_feats": feats.to(model.lm.dtype), "boxes": boxes.to(model.lm.dtype)}
    return {"input_ids": draw(6), **seen, "labels": draw(5)}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs(model)).logits


def sgd(model: Any, steps: int) -> None:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**inputs(model)).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_training_saving_loading_and_detaching(mini, name, tmp_path):
    """Every trained tensor has a gradient at the second step; another start draws the same frozen parts, so that a file
    of the trained tensors is enough; afterwards the model is the one before, module by module and bit by bit."""
    modules, before = dict(mini.named_modules()), {key: t.clone() for key, t in mini.state_dict().items()}
    flags = {key: p.requires_grad for key, p in mini.named_parameters()}
    plain, fresh = logits(mini), copy.deepcopy(mini)
    torch.manual_seed(1)
    handle = methods.attach(mini, name)
    torch.manual_seed(2)
    other = methods.attach(fresh, name)
    mini.train()
    sgd(mini, 2)
    mini.eval()
    assert [key for key, p in handle.trained().items() if p.grad.abs().max() == 0] == []
    handle.save(tmp_path / "weights.safetensors")
    other.load(tmp_path / "weights.safetensors")
    assert not torch.equal(logits(mini), plain)
    assert torch.equal(logits(fresh), logits(mini))

    handle.detach()
    assert dict(mini.named_modules()) == modules
    assert {key: p.requires_grad for key, p in mini.named_parameters()} == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in mini.modules())
    assert not hasattr(mini.lm, "peft_config")
    after = mini.state_dict()
    assert all(torch.equal(after[key], t) for key, t in before.items() if key.startswith("lm."))
    mini.load_state_dict(before)  # the projector was trained in place
    assert torch.equal(logits(mini), plain)


@pytest.mark.parametrize("name", NAMES)
def test_beams_with_and_without_cache(mini, name):
    attach_moved(mini, name, 0.1)
    given = inputs(mini)
    del given["labels"]
    options = {"num_beams": 3, "max_length": 8, "do_sample": False, "return_dict_in_generate": True}
    options |= {"output_scores": True}
    cached, uncached = (mini.generate(**given, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached.sequences, uncached.sequences)
    torch.testing.assert_close(cached.sequences_scores, uncached.sequences_scores, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing(mini, name):
    handle = attach_moved(mini, name, 0.1)
    mini.double().train()  # the gradients of peft:randlora are sums of large terms
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            mini.lm.gradient_checkpointing_enable()
        torch.manual_seed(0)
        mini.zero_grad()
        if checkpointing and name == "peft:prefix":
            with pytest.raises(MethodError, match="gradient checkpointing drops the decoder's cache"):
                mini(**inputs(mini))
            return
        mini(**inputs(mini)).loss.backward()
        gradients.append({key: p.grad.clone() for key, p in handle.trained().items()})
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(mini, name):
    exact, whole = copy.deepcopy(mini), copy.deepcopy(mini).to(torch.bfloat16)
    methods.attach(exact, name)
    loss = exact(**inputs(exact)).loss
    with torch.autocast("cpu", torch.bfloat16):
        mixed = exact(**inputs(exact)).loss
    mixed.backward()
    torch.testing.assert_close(mixed, loss, atol=0.1, rtol=0.05)

    handle = methods.attach(whole, name)
    assert {p.dtype for p in handle.trained().values()} == {torch.bfloat16}
    half = whole(**inputs(whole)).loss
    half.backward()
    torch.testing.assert_close(half, loss, atol=0.2, rtol=0.1)
    assert all(torch.isfinite(p.grad).all() for p in handle.trained().values())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "peft:prefix"])
def test_layers_stand_where_the_table_says_and_nowhere_else(family, name):
    model = wrapper(family)
    wanted = re.compile(TARGETS.get(name, QUERY_AND_VALUE)[family])
    expected = {key for key, _ in model.lm.named_modules() if wanted.fullmatch(key)}
    assert len(expected) >= 6
    methods.attach(model, name)
    found = {key for key, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    assert found == {f"lm.{key}" for key in expected}


@pytest.mark.parametrize("name", NAMES)
def test_the_library_opens_what_is_exported(family, name, tmp_path):
    lm = language_model(family)
    handle = attach_moved(lm, name, 0.1)
    handle.export_peft(tmp_path / "adapter")
    opened = peft.PeftModel.from_pretrained(language_model(family), tmp_path / "adapter").eval()
    ids = text()["input_ids"]
    with torch.no_grad():
        wanted = lm(input_ids=ids, decoder_input_ids=ids).logits
        read = opened(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(read, wanted, atol=1e-6, rtol=1e-6)


def test_explanations_name_the_layers_and_their_tensors(family):
    text = methods.explain(methods.attach(wrapper(family), "peft:dora"))
    assert "LORA of HF PEFT" in text and "use_dora=True" in text
    where = r"lm\.model\.decoder\.layers\.\*\.encoder_attn\.v_proj" if family == "bart" else r"lm\.decoder\.block\.\*"
    assert re.search(where + r".*, layers 0-1: lora_A\S* \[5 x 32\], lora_B\S* \[\d+ x 5\], lora_magnitude", text)


def test_what_peft_refuses_leaves_the_model_alone(family):
    lm = language_model(family)
    modules, flags = dict(lm.named_modules()), {key: p.requires_grad for key, p in lm.named_parameters()}
    plain = lm(**text()).logits
    with pytest.raises(MethodError, match=r"PEFT refuses SHIRA: .*not allowed"):
        methods.attach(lm, methods.get("peft:shira", rank=5000))
    assert dict(lm.named_modules()) == modules and vars(lm).get("peft_config") is None
    assert {key: p.requires_grad for key, p in lm.named_parameters()} == flags
    assert torch.equal(lm(**text()).logits, plain)


@pytest.mark.parametrize(
    "name, options, reason",
    [
        ("vera", {"rank": 0}, "rank must be at least 1"),
        ("vblora", {"topk": 5, "vectors": 4}, "topk=5 of 4 vectors"),
        ("gralora", {"rank": 7}, "rank 7 is not divisible by grid 2"),
    ],
)
def test_options_that_do_not_go_together_are_refused_without_a_model(name, options, reason):
    shape = methods.Shape("bart", d=96, ff=384, heads=4, inner=96, encoder_layers=3, decoder_layers=2, vocab=100)
    with pytest.raises(MethodError, match=reason):
        methods.get(f"peft:{name}", **options).spec(shape)


def test_a_prefix_leaves_positions_for_words():
    with pytest.raises(MethodError, match="all of the decoder's 40 positions"):
        methods.attach(language_model("bart"), methods.get("peft:prefix", length=40))


def test_sizes_that_must_divide_are_cut_to_the_widths():
    shape = methods.Shape("t5", d=96, ff=384, heads=4, inner=72, encoder_layers=3, decoder_layers=2, vocab=100)
    settings = dict(methods.get("peft:c3a").spec(shape).parts[0].settings)
    assert settings["block_size"] == 8  # the largest divisor of 256, 96 and 72
    assert dict(methods.get("peft:c3a", block=4).spec(shape).parts[0].settings)["block_size"] == 4


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_prefix_is_the_librarys(family, hidden):
    """Against PeftModelForSeq2SeqLM with the same encoder: logits, gradients, and generation with its cache."""
    lm, theirs = language_model(family), language_model(family)
    shape = methods.Shape.of(lm.config)
    methods.attach(lm, methods.get("peft:prefix", length=6, hidden=hidden))
    config = peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=6, token_dim=shape.inner, num_attention_heads=4, num_layers=2,
        num_transformer_submodules=2, prefix_projection=hidden > 0, encoder_hidden_size=hidden,
    )  # fmt: skip
    library = peft.get_peft_model(theirs, config).eval()
    library.prompt_encoder["default"].load_state_dict(lm.pet["prefix"].encoder.state_dict())
    one, other = lm(**text()), library(**text())
    torch.testing.assert_close(one.logits, other.logits, atol=1e-6, rtol=1e-6)
    one.loss.backward()
    other.loss.backward()
    for mine, library_own in zip(lm.pet.parameters(), library.prompt_encoder.parameters(), strict=True):
        assert mine.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, library_own.grad, atol=1e-6, rtol=1e-5)
    options = {"num_beams": 3, "max_new_tokens": 8, "do_sample": False, "use_cache": True}
    ids = text()["input_ids"]
    assert torch.equal(lm.generate(ids, **options), library.generate(input_ids=ids, **options))


def test_no_prefix_is_left_in_a_callers_cache(family):
    """A step at a time with the cache that came back, and all at once."""
    lm = language_model(family)
    methods.attach(lm, methods.get("peft:prefix", length=6))
    ids = text()["input_ids"]
    with torch.no_grad():
        at_once = lm(input_ids=ids, decoder_input_ids=ids, use_cache=False)
        assert at_once.past_key_values is None
        first = lm(input_ids=ids, decoder_input_ids=ids[:, :3], use_cache=True)
        rest = lm(input_ids=ids, decoder_input_ids=ids[:, 3:], past_key_values=first.past_key_values, use_cache=True)
    stepped = torch.cat([first.logits, rest.logits], dim=1)
    torch.testing.assert_close(stepped, at_once.logits, atol=2e-6, rtol=1e-5)
