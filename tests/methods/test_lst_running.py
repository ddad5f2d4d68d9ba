"""Ladder side-tuning at work: what the backbone sees and keeps, generation, files and copies."""

import copy

import pytest
import torch
from lst_models import FEATURES, PAD, batch, enable_checkpointing, vl
from tiny_models import config, perturb
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

import methods
from bench import backbones


@torch.no_grad()
def test_the_backbone_sees_text_alone_and_the_side_network_everything(family):
    model, given = vl(family), batch(family, labels=False)
    mask = (given["input_ids"] != PAD[family]).long()
    plain = copy.deepcopy(model)
    plain.handle.detach()
    theirs = plain.lm.get_encoder()(input_ids=given["input_ids"], attention_mask=mask).last_hidden_state
    found = model(**given)
    torch.testing.assert_close(found.encoder_last_hidden_state, theirs, atol=2e-6, rtol=1e-5)
    feats, boxes = given["vis_feats"], given["boxes"]
    two = batch(family, images=2)
    for changed in ((feats + 1, boxes), (feats[:, :4], boxes[:, :4]), (two["vis_feats"], two["boxes"])):
        other = model(given["input_ids"], *changed)
        assert torch.equal(other.encoder_last_hidden_state, found.encoder_last_hidden_state)
        assert not torch.allclose(other.logits, found.logits, atol=1e-3)
    assert model(given["input_ids"], feats[:, :0]).logits.isfinite().all()


@torch.no_grad()
def test_padding_changes_nothing(family):
    model, given = vl(family), batch(family)
    both = model(**given).logits
    own = {name: value[1:2] for name, value in given.items()}
    alone = model(**own | {"input_ids": own["input_ids"][:, :4]}).logits
    torch.testing.assert_close(both[1:2], alone, atol=5e-6, rtol=1e-5)


def test_training_moves_the_side_network_and_the_projector_alone(family):
    model, given = vl(family), batch(family)
    model.train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for task_given in (given, batch(family, images=2)):  # the second image has an order embedding of its own
        model(**task_given).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name.startswith(("pet.", "visual_embedding.")) and "obj_order" not in name:
            if "k_proj.bias" not in name:  # softmax does not see a constant added to all keys
                assert parameter.grad.abs().max() > 0, name
                assert not torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_nothing_of_the_backbone_is_kept_for_the_backward_pass(family, checkpointing):
    """But for what its layers and embeddings give out, which enters the side network, and the tied head."""
    model, given = vl(family), batch(family)
    model.set_dropout(0.1)
    if checkpointing:
        enable_checkpointing(model)
    ladders, inner, saved = [], [], []
    for stack in (model.lm.get_encoder(), model.lm.get_decoder()):
        layers = stack.layers if family == "bart" else stack.block
        entrance = stack.layernorm_embedding if family == "bart" else stack.embed_tokens
        for module in stack.modules():
            kept = ladders if module is entrance or module in layers else inner
            module.register_forward_hook(
                lambda m, a, out, kept=kept: kept.append(out[0] if isinstance(out, tuple) else out)
            )
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        loss = model(**given).loss
    kept = {storage(tensor) for tensor in saved}
    outside = {storage(tensor) for tensor in ladders}
    found = {storage(out if isinstance(out, Tensor) else out[0]) for out in inner} - outside
    assert len(found) > 20 and not kept & found
    assert outside & kept
    weights = {storage(p): name for name, p in model.lm.named_parameters()}
    assert {weights[address] for address in kept & weights.keys()} <= {"shared.weight", "model.shared.weight"}
    loss.backward()


def test_an_error_in_the_backbones_decoder_leaves_gradients_on(family):
    model, given = vl(family), batch(family)
    wanted = model(**given).loss
    layers = model.lm.get_decoder().layers if family == "bart" else model.lm.get_decoder().block
    handle = layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**given)
    assert torch.is_grad_enabled()
    handle.remove()
    assert torch.equal(model(**given).loss, wanted)


def test_gradient_checkpointing_changes_no_gradient(family):
    gradients = []
    for checkpointing in (False, True):
        model = vl(family)
        if checkpointing:
            enable_checkpointing(model)
        model.train()
        model(**batch(family)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 40
    torch.testing.assert_close(gradients[0], gradients[1])


def test_dropout_rates_are_the_backbones(family):
    torch.manual_seed(0)
    model = backbones.build(config(family), feat_dim=FEATURES)
    model.set_dropout(0.3)
    ladder = methods.attach(model, "lst").model.pet["input"]
    rates = {
        getattr(module, name)
        for module in ladder.modules()
        for name in ("p", "dropout", "activation_dropout")
        if isinstance(getattr(module, name, None), float)
    }
    assert rates == {0.3}
    entering = []
    for module in (ladder.encoder.first, ladder.decoder.first, ladder.up):
        module.register_forward_pre_hook(lambda module, args: entering.append(float((args[0] == 0).float().mean())))
    model.train()(**batch(family))
    assert all(0.2 < share < 0.4 for share in entering[:2])
    assert 0.1 < entering[2] < 0.5 if family == "t5" else entering[2] == 0  # BART ends with a norm


@torch.no_grad()
def test_greedy_generation_is_stepping_by_hand(family):
    model, given = vl(family), batch(family, labels=False)
    found = model.generate(**given, max_new_tokens=9, min_new_tokens=9, num_beams=1, do_sample=False)
    end = model.lm.config.eos_token_id
    for row in range(3):
        own = {name: value[row : row + 1] for name, value in given.items()}
        said = [model.lm.config.decoder_start_token_id]
        for _ in range(9):
            logits = model(**own, decoder_input_ids=torch.tensor([said])).logits[0, -1]
            logits[end] = -torch.inf
            if family == "bart" and len(said) == 9:  # HF forces the end of BART's answers at the last place
                logits[end] = torch.inf
            said.append(int(logits.argmax()))
        assert found[row].tolist()[:9] == said[:9]


@torch.no_grad()
@pytest.mark.parametrize("images", [1, 2])
def test_cached_generation_is_uncached_generation(family, images):
    model, given = vl(family, std=0.4), batch(family, images=images, labels=False)
    options = {"max_new_tokens": 9, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    cached, uncached = (model.generate(**given, use_cache=cache, **options) for cache in (True, False))
    torch.testing.assert_close(torch.stack(cached.scores), torch.stack(uncached.scores), atol=2e-5, rtol=1e-5)
    for beams in (3, 5):
        arguments = backbones.generation_arguments(model, beams, 12)
        ids, slow = (model.generate(**given, use_cache=cache, **arguments) for cache in (True, False))
        assert torch.equal(ids, slow)
        assert len({tuple(row) for row in ids.tolist()}) > 1


@torch.no_grad()
def test_the_side_decoder_lives_in_the_backbones_cache(family):
    model, given = vl(family), batch(family, labels=False)
    outputs, mask = model.encode(**given)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    start = torch.full((3, 4), model.lm.config.decoder_start_token_id)
    model.lm(encoder_outputs=outputs, attention_mask=mask, decoder_input_ids=start, past_key_values=cache)
    widths = [(8, 8)] * 2 + [(2, 2)] * 2 if family == "bart" else [(12, 12)] * 2 + [(3, 3)] * 2
    assert [(part.keys.shape[-1], part.values.shape[-1]) for part in cache.self_attention_cache.layers] == widths
    assert [part.keys.shape[-2] for part in cache.self_attention_cache.layers] == [4] * 4
    assert [part.keys.shape[-2] for part in cache.cross_attention_cache.layers] == [6, 6, 15, 15]


@torch.no_grad()
def test_saving_loading_detaching(family, tmp_path):
    model, given = vl(family), batch(family)
    wanted = model(**given).logits
    model.handle.save(tmp_path / "weights.safetensors")
    fresh = vl(family, std=0.3)
    assert not torch.equal(fresh(**given).logits, wanted)
    fresh.handle.load(tmp_path / "weights.safetensors")
    assert torch.equal(fresh(**given).logits, wanted)

    torch.manual_seed(0)
    plain = backbones.build(config(family), feat_dim=FEATURES).eval()
    perturb(plain, 0.1)
    logits = plain(**given).logits
    handle = methods.attach(plain, "lst")
    assert not torch.allclose(plain(**given).logits, logits, atol=1e-3)
    handle.detach()
    assert torch.equal(plain(**given).logits, logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in plain.modules())


@torch.no_grad()
def test_a_copied_model_is_its_own(family):
    model, given = vl(family), batch(family)
    wanted = model(**given).logits
    twin = copy.deepcopy(model)
    perturb(twin.pet, 0.3)
    assert not torch.allclose(twin(**given).logits, wanted, atol=1e-3)
    assert torch.equal(model(**given).logits, wanted)


def test_bfloat16_with_a_float32_output_projection(family):
    torch.manual_seed(0)
    model = backbones.build(config(family), feat_dim=FEATURES, dtype=torch.bfloat16)
    if family == "t5":  # as HF loads it
        for module in (*model.lm.encoder.block, *model.lm.decoder.block):
            module.layer[-1].DenseReluDense.wo.float()
    methods.attach(model, "lst")
    assert {p.dtype for p in model.pet.parameters()} == {torch.bfloat16}
    given = batch(family)
    given |= {name: given[name].bfloat16() for name in ("vis_feats", "boxes")}
    loss = model.train()(**given).loss
    loss.backward()
    assert loss.isfinite() and model.pet["input"].encoder.first.weight.grad.isfinite().all()
    given.pop("labels")
    assert torch.equal(*(model.eval().generate(**given, max_new_tokens=4, use_cache=cache) for cache in (True, False)))


def test_autocast(family):
    model, given = vl(family, std=0.1), batch(family)
    exact = model(**given).logits
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**given)
    found.loss.backward()
    scale = exact.abs().max()
    assert 1e-5 * scale < (found.logits.float() - exact).abs().max() < 0.1 * scale
    assert all(p.grad.isfinite().all() for p in model.pet.parameters())
