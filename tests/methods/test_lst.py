"""Ladder side-tuning against the ladder written out; its sizes and start values."""

import copy

import pytest
import torch
from lst_models import FEATURES, batch, causal, one_by_one, prepared, unseen, vl
from tiny_models import config, language_model, perturb
from torch import Tensor
from torch.nn import functional as F

import methods
from bench import backbones
from methods import MethodError


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


def test_a_number_of_samples_goes_with_the_start_that_needs_them(family):
    shape = methods.Shape.of(config(family))
    with pytest.raises(MethodError, match="fisher_samples is for side_init='fisher-v2', not for 'magnitude'"):
        methods.get("lst", fisher_samples=8).spec(shape)
    assert "samples" not in methods.get("lst").spec(shape).data()["parts"][0]  # its fingerprint is that of before
    assert methods.get("lst", side_init="fisher-v2").spec(shape).parts[0].training_examples == 1024


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
        assert methods.get("lst").optim(family, "image-text") == methods.OptimizerSettings(3e-3, weight_decay=3e-2)


DROPOUT = {"bart": {"dropout": 0.3}, "t5": {"dropout_rate": 0.3}}


def top(importance: Tensor, count: int) -> list[int]:
    return sorted(importance.argsort(descending=True)[:count].tolist())


def importances(model: torch.nn.Module, start: str) -> dict[str, Tensor]:
    """The importance of every weight of a language model, by name: its magnitude, or its squared gradients."""
    parameters = dict(model.lm.named_parameters())
    if start == "magnitude":
        return {name: parameter.detach().abs() for name, parameter in parameters.items()}
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for example in one_by_one():
        logits = model.lm(input_ids=example.input_ids, labels=example.labels).logits
        loss = F.cross_entropy(logits.flatten(0, 1), example.labels.flatten())
        for name, gradient in zip(sums, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            sums[name] += gradient**2
    return {name: total.double() for name, total in sums.items()}


@pytest.mark.parametrize("start", ["magnitude", "fisher-v2"])
def test_the_layers_are_cut_out_of_the_backbone_by_importance(start):
    """T5's first encoder layer, followed from the word embedding to the next layer's norm."""
    torch.manual_seed(0)
    model = backbones.build(config("t5"), feat_dim=FEATURES).eval()
    perturb(model, 0.1)
    by_name = importances(model, start)
    methods.attach(model, methods.get("lst", side_init=start), prepared=prepared(model, start))
    big, small = model.lm.encoder.block, [rung.block for rung in model.pet["input"].encoder.rungs]

    def parts(name: str, *points: str) -> list[tuple[Tensor, Tensor]]:
        names = [f"encoder.block.0.layer.{name}.{point}.weight" for point in points]
        return [(model.lm.get_parameter(name), by_name[name]) for name in names]

    kept = top(by_name["shared.weight"].sum(0), 8)
    sa, own = big[0].layer[0], small[0].layer[0]
    assert torch.equal(own.layer_norm.weight, sa.layer_norm.weight[kept])
    (q, fq), (k, fk), (v, fv) = parts("0.SelfAttention", *"qkv")
    rows = top((fq * fk * fv)[:, kept].sum(1), 12)
    for point, weight in zip("qkv", (q, k, v), strict=True):
        assert torch.equal(getattr(own.SelfAttention, point).weight, weight[:, kept][rows])
    ((o, fo),) = parts("0.SelfAttention", "o")
    kept = top(fo[:, rows].sum(1), 8)
    assert torch.equal(own.SelfAttention.o.weight, o[:, rows][kept])
    ff, own = big[0].layer[1], small[0].layer[1]
    assert torch.equal(own.layer_norm.weight, ff.layer_norm.weight[kept])
    ((wi, fwi),) = parts("1.DenseReluDense", "wi")
    rows = top(fwi[:, kept].sum(1), 12)
    assert torch.equal(own.DenseReluDense.wi.weight, wi[:, kept][rows])
    ((wo, fwo),) = parts("1.DenseReluDense", "wo")
    kept = top(fwo[:, rows].sum(1), 8)
    assert torch.equal(own.DenseReluDense.wo.weight, wo[:, rows][kept])
    assert torch.equal(small[1].layer[0].layer_norm.weight, big[1].layer[0].layer_norm.weight[kept])
    for name in ("encoder", "decoder"):
        theirs = getattr(model.lm, name).block[0].layer[0].SelfAttention.relative_attention_bias.weight
        ours = getattr(model.pet["input"], name).rungs[0].block.layer[0].SelfAttention.relative_attention_bias.weight
        assert torch.equal(ours, theirs)


def test_computing_the_fisher_information_leaves_the_model_as_it_was(family):
    model = backbones.build(config(family, **DROPOUT[family]), feat_dim=FEATURES).train()
    model.lm.get_input_embeddings().weight.requires_grad_(False)
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    kept, again = prepared(model, "fisher-v2"), prepared(model, "fisher-v2")
    torch.testing.assert_close(kept, again, atol=0, rtol=0)  # no dropout is drawn either
    assert torch.equal(torch.get_rng_state(), state) and model.lm.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0]) and parameter.requires_grad == before[name][1]
        assert parameter.grad is None


def test_without_data_a_start_by_fisher_information_is_random_and_takes_its_weights(family, tmp_path):
    model, other, drawn = (backbones.build(config(family), feat_dim=FEATURES) for _ in range(3))
    chosen = methods.get("lst", side_init="fisher-v2")
    given = prepared(model, "fisher-v2")
    torch.manual_seed(3)
    handle = methods.attach(model, chosen, prepared=given)
    generator = torch.get_rng_state()
    torch.manual_seed(3)
    without = methods.attach(other, chosen)
    assert torch.equal(torch.get_rng_state(), generator)
    torch.manual_seed(3)
    methods.attach(drawn, methods.get("lst", side_init="random"))
    torch.testing.assert_close(other.pet.state_dict(), drawn.pet.state_dict(), atol=0, rtol=0)
    assert without.count() == handle.count()
    handle.save(tmp_path / "weights.safetensors")
    without.load(tmp_path / "weights.safetensors")
    torch.testing.assert_close(other.pet.state_dict(), model.pet.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("start", ["magnitude", "fisher-v2"])
def test_every_cut_tensor_is_part_of_its_counterpart(family, start):
    """Both stacks, BART's biases and norms and T5's last norms included; a gated FFN too."""
    gated = {"feed_forward_proj": "gated-gelu"} if family == "t5" else {}
    torch.manual_seed(0)
    model = backbones.build(config(family, **gated), feat_dim=FEATURES)
    perturb(model, 0.1)
    methods.attach(model, methods.get("lst", side_init=start), prepared=prepared(model, start))
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
