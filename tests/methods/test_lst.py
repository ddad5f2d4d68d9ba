"""Ladder side-tuning: the ladder written out, what the backbone never sees, generation, start values."""

import copy

import pytest
import torch
from tiny_models import config, language_model, perturb
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache

import methods
from bench import backbones
from methods import MethodError

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


def enable_checkpointing(model):
    getattr(model.lm, "activation_checkpointing_enable", model.lm.gradient_checkpointing_enable)()


def causal(length: int) -> Tensor:
    return torch.full((length, length), -1e9).triu(1)


def unseen(mask: Tensor) -> Tensor:
    return (1.0 - mask[:, None, None].float()) * -1e9


# --- T5, from the tensors alone -----------------------------------------------------------------------------------


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


def attention(t, name, x, source, added):
    q, k, v = (
        F.linear(states, t[f"{name}.{point}.weight"]).unflatten(-1, (4, -1)).transpose(1, 2)
        for point, states in (("q", x), ("k", source), ("v", source))
    )
    read = (q @ k.transpose(2, 3) + added).softmax(-1) @ v
    return F.linear(read.transpose(1, 2).flatten(2), t[f"{name}.o.weight"])


def t5_block(t, name, x, added, memory=None, unseen_memory=None):
    n = rms(x, t[f"{name}.layer.0.layer_norm.weight"])
    x = x + attention(t, f"{name}.layer.0.SelfAttention", n, n, added)
    if memory is not None:
        n = rms(x, t[f"{name}.layer.1.layer_norm.weight"])
        x = x + attention(t, f"{name}.layer.1.EncDecAttention", n, memory, unseen_memory)
    last = f"{name}.layer.{1 if memory is None else 2}"
    n = rms(x, t[f"{last}.layer_norm.weight"])
    middle = F.linear(n, t[f"{last}.DenseReluDense.wi.weight"]).relu()
    return x + F.linear(middle, t[f"{last}.DenseReluDense.wo.weight"])


def biases(t, name, length, both_ways):
    """Relative position biases of so few positions that each distance has its own bucket."""
    ahead = torch.arange(length)[None] - torch.arange(length)[:, None]
    bucket = ahead.abs() + 16 * (ahead > 0) if both_ways else (-ahead).clamp(min=0)
    table = t[f"{name}.layer.0.SelfAttention.relative_attention_bias.weight"]
    return table[bucket].permute(2, 0, 1)[None]


def linear(t, name, x):
    return F.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])


def climb(t, side, u, steps, blocks):
    for index, (b, block) in enumerate(zip(steps, blocks, strict=True)):
        g = torch.sigmoid(t[f"{side}.rungs.{index}.gate"] / 0.1)
        step = linear(t, f"{side}.rungs.{index}.down", b)
        zeros = torch.zeros(len(u), u.shape[1] - b.shape[1], u.shape[2])
        u = block(f"{side}.rungs.{index}.block", g * u + (1 - g) * torch.cat([step, zeros], dim=1))
    return rms(u, t[f"{side}.norm.weight"])


@torch.no_grad()
def test_on_t5_it_is_the_ladder_written_out():
    model, given = vl("t5"), batch("t5")
    t, ids = model.state_dict(), given["input_ids"]
    words, mask = t["lm.shared.weight"], (ids != 0).long()
    visual = model.visual_embedding(given["vis_feats"], given["boxes"])
    side = "pet.input.encoder"

    x, steps = words[ids], []
    added = biases(t, "lm.encoder.block.0", 6, both_ways=True) + unseen(mask)
    for index in range(2):
        steps.append(t5_block(t, f"lm.encoder.block.{index}", steps[-1] if steps else x, added))
    states = rms(steps[-1], t["lm.encoder.final_layer_norm.weight"])

    joint = torch.cat([mask, torch.ones(3, 9, dtype=torch.long)], dim=1)
    text = F.pad(biases(t, f"{side}.rungs.0.block", 6, both_ways=True), (0, 9, 0, 9)) + unseen(joint)
    blocks = [lambda name, u: t5_block(t, name, u, text)] * 2
    memory = climb(t, side, linear(t, f"{side}.first", torch.cat([x, visual], dim=1)), steps, blocks)

    side = "pet.input.decoder"
    shifted = F.pad(given["labels"][:, :-1], (1, 0), value=0)
    y, steps = words[shifted], []
    added = biases(t, "lm.decoder.block.0", 5, both_ways=False) + causal(5)
    for index in range(2):
        before = steps[-1] if steps else y
        steps.append(t5_block(t, f"lm.decoder.block.{index}", before, added, states, unseen(mask)))
    own = biases(t, f"{side}.rungs.0.block", 5, both_ways=False) + causal(5)
    blocks = [lambda name, u: t5_block(t, name, u, own, memory, unseen(joint))] * 2
    u = climb(t, side, linear(t, f"{side}.first", y), steps, blocks)
    logits = linear(t, "pet.input.up", u) * 32**-0.5 @ words.T

    found = model(**given)
    torch.testing.assert_close(found.logits, logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.encoder_last_hidden_state, states, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_on_bart_it_is_the_ladder_over_hfs_own_hidden_states():
    """Side blocks run as HF's layers here; everything around them is written out."""
    model, given = vl("bart"), batch("bart")
    ids, ladder, lm = given["input_ids"], model.pet["input"], model.lm
    mask, labels = (ids != 1).long(), given["labels"]
    shifted = F.pad(labels[:, :-1], (1, 0), value=lm.config.decoder_start_token_id)
    theirs = copy.deepcopy(model)
    theirs.handle.detach()
    whole = theirs.lm(input_ids=ids, attention_mask=mask, decoder_input_ids=shifted, output_hidden_states=True)

    def climbed(side, u, steps, *around):
        for rung, b in zip(side.rungs, steps, strict=True):
            g = torch.sigmoid(rung.gate / 0.1)
            step = F.pad(F.linear(b, rung.down.weight, rung.down.bias), (0, 0, 0, u.shape[1] - b.shape[1]))
            u = rung.block(g * u + (1 - g) * step, *around)
        return u

    x, *steps = whole.encoder_hidden_states
    joint = torch.cat([mask, torch.ones(3, 9, dtype=torch.long)], dim=1)
    inputs = torch.cat([x, model.visual_embedding(given["vis_feats"], given["boxes"])], dim=1)
    memory = climbed(ladder.encoder, ladder.encoder.first(inputs), steps, unseen(joint))
    y, *steps = whole.decoder_hidden_states
    u = climbed(ladder.decoder, ladder.decoder.first(y), steps, causal(5)[None, None], memory, unseen(joint))
    logits = F.linear(ladder.up(u), lm.model.shared.weight) + lm.final_logits_bias

    found = model(**given)
    torch.testing.assert_close(found.logits, logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.encoder_last_hidden_state, whole.encoder_last_hidden_state, atol=2e-5, rtol=1e-5)


# --- sizes --------------------------------------------------------------------------------------------------------


def test_parameters_on_t5_base():
    model = backbones.build("t5-base", feat_dim=2048, device="meta")
    count = methods.attach(model, "lst").count()
    assert (count.new, count.trainable, count.total) == (16_386_072, 17_967_384, 240_926_232)
    assert f"{count.percent:.2f}" == "7.46"


def test_parameters_on_bart_base():
    d, f, w = 768, 3072 // 4, 768 // 4
    attention, ff, norm = 4 * (w * w + w), 2 * w * f + f + w, 2 * w
    layers = 6 * (attention + ff + 2 * norm) + 6 * (2 * attention + ff + 3 * norm)
    ladders = 2 * 7 * (d * w + w) + (w * d + d) + 12
    model = backbones.build("bart-base", feat_dim=2048, device="meta")
    assert methods.attach(model, "lst").count().new == layers + ladders


@pytest.mark.parametrize(
    "changes, what", [({"d_model": 30}, "width, 30"), ({"d_ff": 50}, "FFN width, 50"), ({"d_kv": 6}, "head width, 6")]
)
def test_widths_that_do_not_divide_are_refused_at_planning_time(changes, what):
    shape = methods.Shape.of(config("t5", **changes))
    with pytest.raises(MethodError, match=f"reduction 4 to divide the {what}"):
        methods.get("lst").spec(shape)
    assert methods.get("lst", reduction=2).spec(shape).parts[0].factor == 2


def test_it_is_for_wrappers_and_called_through_them(family):
    with pytest.raises(MethodError, match="vision-language wrapper"):
        methods.attach(language_model(family), "lst")
    model, ids = vl(family), batch(family)["input_ids"]
    with pytest.raises(MethodError, match="call the wrapper"):
        model.lm(input_ids=ids, labels=ids)
    with pytest.raises(MethodError, match="call the wrapper"):
        model.lm.generate(ids)
    assert torch.is_grad_enabled()


def test_recipe_values():
    for family in ("bart", "t5"):
        assert methods.get("lst").optim(family, "image-text") == methods.Optim(3e-3, weight_decay=3e-2)


# --- the backbone -------------------------------------------------------------------------------------------------


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


# --- generation ---------------------------------------------------------------------------------------------------


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


# --- one and another model ----------------------------------------------------------------------------------------


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


# --- start values -------------------------------------------------------------------------------------------------


def top(importance: Tensor, count: int) -> list[int]:
    return sorted(importance.argsort(descending=True)[:count].tolist())


@torch.no_grad()
def test_magnitude_cuts_the_layers_out_of_the_backbone():
    """T5's first encoder layer, followed from the word embedding to the next layer's norm."""
    torch.manual_seed(0)
    model = backbones.build(config("t5"), feat_dim=FEATURES)
    perturb(model, 0.1)
    methods.attach(model, "lst")
    big, small = model.lm.encoder.block, [rung.block for rung in model.pet["input"].encoder.rungs]
    kept = top(model.lm.shared.weight.abs().sum(0), 8)
    sa, own = big[0].layer[0], small[0].layer[0]
    assert torch.equal(own.layer_norm.weight, sa.layer_norm.weight[kept])
    q, k, v = (getattr(sa.SelfAttention, point).weight[:, kept] for point in "qkv")
    rows = top((q * k * v).abs().sum(1), 12)
    for point, weight in zip("qkv", (q, k, v), strict=True):
        assert torch.equal(getattr(own.SelfAttention, point).weight, weight[rows])
    out = sa.SelfAttention.o.weight[:, rows]
    kept = top(out.abs().sum(1), 8)
    assert torch.equal(own.SelfAttention.o.weight, out[kept])
    ff, own = big[0].layer[1], small[0].layer[1]
    assert torch.equal(own.layer_norm.weight, ff.layer_norm.weight[kept])
    up = ff.DenseReluDense.wi.weight[:, kept]
    rows = top(up.abs().sum(1), 12)
    assert torch.equal(own.DenseReluDense.wi.weight, up[rows])
    down = ff.DenseReluDense.wo.weight[:, rows]
    kept = top(down.abs().sum(1), 8)
    assert torch.equal(own.DenseReluDense.wo.weight, down[kept])
    assert torch.equal(small[1].layer[0].layer_norm.weight, big[1].layer[0].layer_norm.weight[kept])
    for name in ("encoder", "decoder"):
        theirs = getattr(model.lm, name).block[0].layer[0].SelfAttention.relative_attention_bias.weight
        ours = getattr(model.pet["input"], name).rungs[0].block.layer[0].SelfAttention.relative_attention_bias.weight
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_every_cut_tensor_is_part_of_its_counterpart(family):
    """Both stacks, BART's biases and norms and T5's last norms included; a gated FFN too."""
    gated = {"feed_forward_proj": "gated-gelu"} if family == "t5" else {}
    torch.manual_seed(0)
    model = backbones.build(config(family, **gated), feat_dim=FEATURES)
    perturb(model, 0.1)
    methods.attach(model, "lst")
    pairs = []
    for stack, side in (
        (model.lm.get_encoder(), model.pet["input"].encoder),
        (model.lm.get_decoder(), model.pet["input"].decoder),
    ):
        layers = stack.layers if family == "bart" else stack.block
        blocks = [rung.block.state_dict() for rung in side.rungs]
        pairs += [
            (b[name], a[name]) for a, b in zip(map(lambda m: m.state_dict(), layers), blocks, strict=True) for name in b
        ]
        if family == "t5":
            pairs.append((side.norm.weight, stack.final_layer_norm.weight))
    assert len(pairs) > 50 if family == "bart" else len(pairs) > 30
    for small, big in pairs:
        assert small.numel() < big.numel() or torch.equal(small, big)
        assert torch.isin(small, big).all()


def test_a_random_start_takes_nothing_from_the_backbone(family):
    model = backbones.build(config(family), feat_dim=FEATURES)
    start = methods.get("lst", side_init="random")
    methods.attach(model, start)
    layers = model.lm.get_encoder().layers if family == "bart" else model.lm.get_encoder().block
    theirs = dict(layers.named_parameters())
    for name, parameter in model.pet["input"].encoder.rungs.named_parameters():
        if name.endswith(("q_proj.weight", "q.weight", "wi.weight", "fc1.weight")):
            assert parameter.std() > 0.01
            assert not torch.isin(parameter, theirs[name.replace(".block.", ".", 1)]).any()


def test_the_gates_start_half_open_and_the_draws_follow_the_global_seed(family):
    states = []
    for _ in range(2):
        model = backbones.build(config(family), feat_dim=FEATURES)
        torch.manual_seed(3)
        methods.attach(model, methods.get("lst", side_init="random"))
        states.append(model.pet.state_dict())
    torch.testing.assert_close(states[0], states[1], atol=0, rtol=0)
    assert all(bool((value == 0).all()) for name, value in states[0].items() if name.endswith("gate"))
