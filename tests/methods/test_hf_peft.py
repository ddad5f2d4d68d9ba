"""Methods of HF PEFT: on the miniature backbones through the wrapper, and against the library used by hand."""

import copy
import re
from typing import Any

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_models import attach_moved, batch, language_model, text, wrapper
from torch import Tensor

import methods
from bench import backbones
from methods import MethodError

NAMES = [name for name in methods.names() if name.startswith("peft:")]
QUERY_AND_VALUE = {
    "bart": r"model\.(en|de)coder\.layers\.\d+\.(self|encoder)_attn\.[qv]_proj",
    "t5": r"(en|de)coder\.block\.\d+\.layer\.[01]\.(Self|EncDec)Attention\.[qv]",
}
TARGETS = {
    "peft:ia3": {
        "bart": r"model\.(en|de)coder\.layers\.\d+\.((self|encoder)_attn\.[kv]_proj|fc2)",
        "t5": r"(en|de)coder\.block\.\d+\.layer\.\d\.((Self|EncDec)Attention\.[kv]|DenseReluDense\.wo)",
    },
    "peft:beft": {family: pattern.replace("[qv]", "v") for family, pattern in QUERY_AND_VALUE.items()},
    "peft:ln": {family: r".*(layer_norm|layernorm_embedding)" for family in QUERY_AND_VALUE},
}


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
    return {"input_ids": draw(6), "vis_feats": feats, "boxes": boxes, "labels": draw(5)}


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
    mini.train()
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
    largest = max(g.abs().max() for g in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5 * float(largest), rtol=5e-3)


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
    given = inputs(whole)
    given |= {key: given[key].to(torch.bfloat16) for key in ("vis_feats", "boxes")}
    half = whole(**given).loss
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


# Native methods against the library


def native_and_library(family: str, name: str, config: Any) -> tuple[Any, Any, dict[str, str]]:
    """A model with our own method, one with PEFT's by hand with the same weights, and the names of those weights."""
    ours, theirs = language_model(family), language_model(family)
    handle = attach_moved(ours, name, 0.2)
    library = peft.get_peft_model(theirs, config).eval()
    names = {}
    own = dict(library.get_base_model().named_modules())
    for key in handle.added():
        _, port, tensor = key.split(".", 2)
        names[key] = named(family, port, tensor, own)
    with torch.no_grad():
        for key, target in names.items():
            parameter = theirs.get_parameter(target)
            parameter.copy_(handle.trained()[key].reshape(parameter.shape))
    return ours, theirs, names


def named(family: str, port: str, tensor: str, modules: dict[str, Any]) -> str:
    """PEFT's name of one of our tensors: ``enc_0_sa_q`` and ``delta.a.weight``, written out."""
    stack, layer, block, point = port.split("_")
    if family == "bart":
        part = {"sa": "self_attn.", "xa": "encoder_attn.", "ff": ""}[block]
        module = f"model.{stack}oder.layers.{layer}.{part}" + ("fc2" if point == "mid" else f"{point}_proj")
    else:
        index = {"sa": 0, "xa": 1, "ff": 1 if stack == "enc" else 2}[block]
        part = {"sa": "SelfAttention", "xa": "EncDecAttention", "ff": "DenseReluDense"}[block]
        module = f"{stack}oder.block.{layer}.layer.{index}.{part}." + ("wo" if point == "mid" else point)
    assert module in modules
    return (
        module
        + {
            "delta.a.weight": ".lora_A.default.weight",
            "delta.b.weight": ".lora_B.default.weight",
            "gate.z": ".ia3_l.default",
        }[tensor]
    )


CONFIGS = {
    "lora": lambda family: peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", target_modules=QUERY_AND_VALUE[family], r=6, lora_alpha=9, lora_dropout=0.0
    ),
    "ia3": lambda family: peft.IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=TARGETS["peft:ia3"][family],
        feedforward_modules=r".*(fc2|wo)",
    ),
}
NATIVE = {"lora": methods.get("lora", rank=6, alpha=9.0, dropout=0.0, biases="none"), "ia3": methods.get("ia3")}


@pytest.mark.parametrize("name", NATIVE)
def test_native_methods_are_the_librarys(family, name):
    ours, theirs, names = native_and_library(family, NATIVE[name], CONFIGS[name](family))
    one, other = ours(**text()), theirs(**text())
    torch.testing.assert_close(one.logits, other.logits, atol=2e-6, rtol=1e-5)
    one.loss.backward()
    other.loss.backward()
    assert len(names) == sum(p.requires_grad for p in theirs.parameters())
    for key, target in names.items():
        mine, library = ours.get_parameter(key).grad, theirs.get_parameter(target).grad
        torch.testing.assert_close(mine, library.reshape(mine.shape), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("method", [methods.get("lora"), NATIVE["lora"], NATIVE["ia3"]], ids=["lora", "bare", "ia3"])
def test_native_methods_are_exported(family, method, tmp_path):
    """On BART LoRA trains all biases as well; PEFT has a place for them."""
    lm = language_model(family)
    handle = methods.attach(lm, method)
    with torch.no_grad():
        for parameter in handle.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    handle.export_peft(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    opened = peft.PeftModel.from_pretrained(language_model(family), tmp_path).eval()
    torch.testing.assert_close(opened(**text()).logits, lm(**text()).logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "method", ["vl-pet-large", "bitfit", methods.get("lora", norms="enc"), "lora+vl-pet-large", "compacter"]
)
def test_other_methods_cannot_be_exported(method, tmp_path):
    handle = methods.attach(language_model("bart"), method)
    with pytest.raises(MethodError, match="PEFT's format can hold"):
        handle.export_peft(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


# AdaLoRA


def adalora(family: str, **options: Any) -> tuple[Any, methods.Handle]:
    model = wrapper(family)
    torch.manual_seed(3)
    settings = {"rank": 2, "start": 2.0, "every": 1, "dropout": 0.0, "warmup": 0.1, "final": 0.4} | options
    return model, methods.attach(model, methods.get("peft:adalora", **settings))


def train(model: Any, optimizer: Any, steps: range, total: int, clear: bool = True) -> None:
    part = model.pet["peft"]
    for step in steps:
        (model(**batch(target=4 + step % 2)).loss + part.penalty()).backward()
        optimizer.step()
        part.updated(step, total)
        optimizer.zero_grad()


def adam(model: Any) -> Any:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)


def values(model: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for key, p in model.named_parameters() if "lora_E" in key])


def test_adalora_trains_as_the_library_does(family):
    """The penalty is what PEFT adds to the loss, the pruning that of its documented loop."""
    model, handle = adalora(family)
    theirs = wrapper(family)
    config = peft.AdaLoraConfig(
        task_type="SEQ_2_SEQ_LM", target_modules=QUERY_AND_VALUE[family], total_step=10, tinit=1, tfinal=4, deltaT=1,
        init_r=4, target_r=2, lora_alpha=32 * 32 / 768,
    )  # fmt: skip
    library = peft.get_peft_model(theirs.lm, config)
    ours = {key: p for key, p in handle.trained().items() if "lora_" in key}
    with torch.no_grad():
        for key, parameter in ours.items():
            theirs.get_parameter(key).copy_(parameter)
    for key, parameter in theirs.named_parameters():
        parameter.requires_grad_(key in handle.trained())
    optimizers = adam(model), adam(theirs)
    for step in range(1, 11):
        train(model, optimizers[0], range(step, step + 1), 10)
        given = batch(target=4 + step % 2)
        states, mask = theirs.encode(given["input_ids"], given["vis_feats"], given["boxes"])
        loss = library(encoder_outputs=states, attention_mask=mask, labels=given["labels"]).loss
        loss.backward()
        optimizers[1].step()
        library.base_model.update_and_allocate(step)
        optimizers[1].zero_grad()
        torch.testing.assert_close(values(model), values(theirs), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            {key: p for key, p in handle.trained().items()},
            {key: theirs.get_parameter(key) for key in handle.trained()}, atol=2e-6, rtol=1e-5,
        )  # fmt: skip
    kept = int((values(model) != 0).sum())
    assert kept == 2 * len(values(model)) // 4


def test_adalora_goes_on_after_a_checkpoint_bit_for_bit(family):
    """A checkpoint holds trained parameters, buffers of ``pet`` and the optimiser; the stop is before, in and after the
    pruning."""
    total = 8
    for stop in (1, 4, 6):
        straight, _ = adalora(family)
        train(straight, adam(straight), range(1, total + 1), total)

        first, handle = adalora(family)
        optimizer = adam(first)
        train(first, optimizer, range(1, stop + 1), total)
        saved = copy.deepcopy(
            (
                {key: p.detach() for key, p in handle.trained().items()},
                dict(first.pet.named_buffers()),
                optimizer.state_dict(),
            )
        )
        second, handle = adalora(family)
        optimizer = adam(second)
        with torch.no_grad():
            for key, parameter in handle.trained().items():
                parameter.copy_(saved[0][key])
            for key, buffer in second.pet.named_buffers():
                buffer.copy_(saved[1][key])
        optimizer.load_state_dict(saved[2])
        train(second, optimizer, range(stop + 1, total + 1), total)
        for key, parameter in handle.trained().items():
            assert torch.equal(parameter, straight.get_parameter(key)), (stop, key)
        assert (values(second) == 0).any()


def test_adalora_with_too_few_updates_prunes_nothing():
    for total in (1, 2, 3):
        model, _ = adalora("bart", final=0.5)
        train(model, adam(model), range(1, total + 1), total)
        assert (values(model) == 0).any() == (total == 3)


@pytest.mark.parametrize(
    "options, reason", [({"start": 1.0}, "is no higher rank"), ({"warmup": 0.6}, "no time for pruning")]
)
def test_adalora_schedules_that_cannot_be(options, reason):
    with pytest.raises(MethodError, match=reason):
        methods.attach(language_model("bart"), methods.get("peft:adalora", **options))


def test_constants_of_adalora_are_not_trained_in_half_precision():
    handle = methods.attach(language_model("t5").to(torch.bfloat16), "peft:adalora")
    assert {key.split(".")[-2] for key in handle.trained()} == {"lora_A", "lora_B", "lora_E"}


# Prefix


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
