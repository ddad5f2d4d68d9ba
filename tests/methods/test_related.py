"""The related vision-language methods against their formulas written out, and against what silently breaks them."""

import copy
import math

import pytest
import torch
from tiny_models import config, perturb
from torch import Tensor

import methods
from bench import backbones
from methods import MethodError, context

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
}
each = pytest.mark.parametrize("name", RELATED)


def chosen(name: str) -> methods.Chosen:
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


def recorded(family: str, chosen: methods.Chosen, **changes):
    """A model with a method moved from its start, and recorders of both its stacks."""
    built = model(family, **changes)
    recorders = {stack: Recorder(family, built, stack) for stack in ("enc", "dec")}
    methods.attach(built, chosen)
    torch.manual_seed(1)
    perturb(built.pet, 0.2)
    for recorder in recorders.values():
        recorder.after()
    return built, recorders


# CLIPFit


def tuned_by_clipfit(family: str, decoder: bool) -> set[str]:
    stacks = ("enc", "dec") if decoder else ("enc",)
    if family == "bart":
        norms = {"lm.model.encoder.layernorm_embedding"}
        for i in (0, 1):
            norms |= {f"lm.model.encoder.layers.{i}.{norm}_layer_norm" for norm in ("self_attn", "final")}
        biases = {f"lm.model.{stack}oder.layers.{i}.fc2.bias" for i in (0, 1) for stack in stacks}
        return biases | {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    norms = {f"lm.encoder.block.{i}.layer.{j}.layer_norm.weight" for i in (0, 1) for j in (0, 1)}
    biases = {f"pet.{stack}_{i}_ff_out.delta.vector" for i in (0, 1) for stack in stacks}
    return biases | norms | {"lm.encoder.final_layer_norm.weight"}


@pytest.mark.parametrize("decoder", [False, True])
def test_clipfit_tunes_second_ffn_biases_and_encoder_norms_and_no_attention(family, decoder):
    handle = methods.attach(model(family), methods.get("clipfit", decoder=decoder))
    names = {name for name in handle.trainable_names() if not name.startswith("visual_embedding.")}
    assert names == tuned_by_clipfit(family, decoder)


@torch.no_grad()
def test_clipfit_gives_t5_the_bias_it_lacks():
    built, recorders = recorded("t5", methods.get("clipfit", decoder=True))
    built(text(), seen())
    for stack, recorder in recorders.items():
        for i, change in enumerate(recorder.changes()):
            vector = built.pet[f"{stack}_{i}_ff_out"].delta.vector
            assert vector.abs().max() > 0.05
            torch.testing.assert_close(change, vector.expand_as(change), **CLOSE)


def mean_states(built, ids: Tensor) -> Tensor:
    """Mean encoder states of every example's text alone."""
    states, mask = built._family.join(built.lm.get_encoder(), ids, (ids != 1).long(), torch.zeros(len(ids), 0, 32))
    return torch.stack([states[i, : int(mask[i].sum())].mean(0) for i in range(len(ids))])


def test_distillation_is_the_distance_from_the_untuned_model(family):
    """Written out with a copy of the model from before: no dropout on either side, text alone, padding left out."""
    built = model(family, **({"dropout": 0.3} if family == "bart" else {"dropout_rate": 0.3}), pad_token_id=1)
    before = copy.deepcopy(built)
    handle = methods.attach(built, methods.get("clipfit", distill=8.0, decoder=True))
    ids = padded(text(), 4, built)
    built.train()
    distill = built.pet["input"]
    assert distill.penalty() is None
    built(ids, seen())
    assert abs(distill.penalty().item()) < 1e-5  # nothing is tuned yet
    assert distill.penalty() is None  # asked once
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in handle.trained().items():
            if not name.startswith("visual"):
                parameter.add_(torch.randn_like(parameter) * 0.5)
    values = {name: parameter.detach().clone() for name, parameter in built.named_parameters()}
    built(ids, seen())
    penalty = distill.penalty()
    penalty.backward()
    assert all(torch.equal(values[name], parameter) for name, parameter in built.named_parameters())
    assert all(module.training for module in built.modules())
    built.eval()
    cosines = [
        torch.dot(a, b) / (a.norm() * b.norm())
        for a, b in zip(mean_states(built, ids), mean_states(before, ids), strict=True)
    ]
    torch.testing.assert_close(penalty, 8 * (1 - sum(cosines) / 2), atol=1e-5, rtol=1e-5)
    assert penalty > 0.05
    for name, parameter in built.named_parameters():
        moves = name in handle.trained() and "dec" not in name.split(".")[1][:3] and ".decoder." not in name
        assert (parameter.grad is not None and parameter.grad.any()) == (moves and not name.startswith("visual")), name
    built(ids, seen())
    assert distill.penalty() is None  # evaluation asks for nothing


def test_distillation_keeps_its_yardstick_in_copies_and_checkpoints(family):
    built = model(family)
    methods.attach(built, methods.get("clipfit", distill=1.0))
    kept = {name: buffer.clone() for name, buffer in built.named_buffers() if name.startswith("pet.")}
    twin = copy.deepcopy(built).train()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter) * parameter.requires_grad)
    twin(text(), seen())
    assert twin.pet["input"].penalty() > 0.01
    built.train()(text(), seen())
    assert built.pet["input"].penalty().abs() < 1e-5
    for name, buffer in twin.named_buffers():
        if name.startswith("pet."):
            torch.testing.assert_close(buffer, kept[name], atol=0, rtol=0)


# ADEM-VL


def silu(u: Tensor) -> Tensor:
    return u / (1 + torch.exp(-u))


def fused(n: Tensor, tokens: Tensor, tables: tuple[Tensor, Tensor], real: list[list[int]], ratio: float) -> Tensor:
    """Token by token: the sum over visual tokens of score times value, without the lowest scores."""
    keys, values = tokens + tables[0], tokens + tables[1]
    out = torch.zeros_like(n)
    for b, slots in enumerate(real):
        for q in range(n.shape[1]):
            scores = {m: torch.dot(silu(n[b, q]), silu(keys[b, m])) for m in slots}
            threshold = sorted(score.item() for score in scores.values())[int(ratio * len(slots))]
            for m, score in scores.items():
                if score >= threshold:
                    out[b, q] += score * values[b, m]
    return out


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.55])
@torch.no_grad()
def test_fusion_is_the_formula_on_a_grid_and_its_coarse_copy(family, ratio):
    options = {"grids": (4, 2), "alpha": 0.3, "beta": 0.7, "drop": ratio}
    built, recorders = recorded(family, methods.get("adem-vl", **options), n_boxes=16)
    ids, feats = text(), seen(count=16)
    states = built(ids, feats, labels=text(length=3)).encoder_last_hidden_state
    assert states.shape == (2, 6, 32)  # text alone
    tokens = built.visual_embedding(feats)
    grid = tokens.view(2, 4, 4, 32)
    coarse = [grid[:, y : y + 2, x : x + 2].flatten(1, 2).mean(1) for y in (0, 2) for x in (0, 2)]
    tokens = 0.7 * torch.cat([tokens, torch.stack(coarse, 1)], dim=1)
    apart = built.pet["input"]
    assert apart.key_positions.shape == apart.value_positions.shape == (20, 32)
    tables = apart.key_positions, apart.value_positions
    for recorder in recorders.values():
        for found, change in zip(recorder.found, recorder.changes(), strict=True):
            written = 0.3 * fused(found["n"], tokens, tables, [list(range(20))] * 2, ratio)
            assert written.abs().max() > 0.1
            torch.testing.assert_close(change, written, atol=3e-5, rtol=1e-4)


@torch.no_grad()
def test_fusion_leaves_padded_slots_out(family):
    """In sum and ranks: a short video among longer ones is as it is alone; 9 frames in a row are no grid of 3 x 3."""
    options = {"grids": (6, 3), "alpha": 0.3, "beta": 0.7, "drop": 0.3}
    built, recorders = recorded(family, methods.get("adem-vl", **options))
    feats = seen()
    feats[0, 5:] = 0
    both = built(text(), feats, labels=text(length=3)).logits
    tables = built.pet["input"].key_positions, built.pet["input"].value_positions
    assert tables[0].shape == (9, 32)
    written = fused(
        recorders["enc"].found[0]["n"],
        0.7 * built.visual_embedding(feats),
        tables,
        [list(range(5)), list(range(9))],
        0.3,
    )
    torch.testing.assert_close(recorders["enc"].changes()[0], 0.3 * written, atol=3e-5, rtol=1e-4)
    alone = built(text()[:1], feats[:1, :5], labels=text(length=3)[:1]).logits
    torch.testing.assert_close(both[:1], alone, **CLOSE)


@torch.no_grad()
def test_images_without_anything_seen_and_no_images_are_the_text_alone(family):
    plain = model(family)
    ids, labels, nothing = text(), text(length=3), torch.zeros(2, 0, FEATS)
    logits = plain(ids, nothing, labels=labels).logits
    methods.attach(plain, methods.get("adem-vl", beta=1.0, grids=(3, 1)))
    perturb(plain.pet, 0.3)
    assert torch.equal(plain(ids, torch.zeros(2, 9, FEATS), labels=labels).logits, logits)
    assert torch.equal(plain(ids, nothing, labels=labels).logits, logits)
    assert not torch.allclose(plain(ids, seen(), labels=labels).logits, logits, atol=1e-3)


@torch.no_grad()
def test_both_images_of_a_pair_have_the_rows_of_one(family):
    built, _ = recorded(family, methods.get("adem-vl", grids=(3, 1), drop=0.5))
    apart = built.pet["input"]
    image = torch.randn(2, 1, 9, 32)
    one = apart.fuse(image, torch.ones(2, 1, 9, dtype=torch.bool))
    two = apart.fuse(image.repeat(1, 2, 1, 1), torch.ones(2, 2, 9, dtype=torch.bool))
    assert torch.equal(two.key, one.key.repeat(1, 2, 1))
    assert torch.equal(two.value, one.value.repeat(1, 2, 1))
    assert (one.cut.tolist(), two.cut.tolist()) == ([5, 5], [10, 10])
    pair = seen(images=2)
    shown = built(text(), pair).logits
    assert not torch.allclose(shown, built(text(), pair[:, 0]).logits, atol=1e-5)


@torch.no_grad()
def test_fusion_knows_whose_visual_tokens_it_fuses(family):
    """Encoder states bring their own, also after another batch, and nothing works without them."""
    built, _ = attached(family, "adem-vl")
    ids, feats, start = text(), seen(), torch.full((2, 1), built.lm.config.decoder_start_token_id)
    wanted = built(ids, feats, decoder_input_ids=start).logits

    def decoded(outputs, mask: Tensor) -> Tensor:
        return built.lm(encoder_outputs=outputs, attention_mask=mask, decoder_input_ids=start).logits

    outputs, mask = built.encode(ids, feats)
    built.encode(ids.flip(0), feats[:, :5])
    assert torch.equal(decoded(outputs, mask), wanted)
    for stranger in ({"encoder_outputs": (outputs[0] + 0,)}, {"input_ids": ids}):
        with pytest.raises(MethodError, match=r"call the wrapper \(model, model\.generate\)"):
            built.lm(**stranger, decoder_input_ids=start)
    with pytest.raises(MethodError, match="call the wrapper"):
        built.lm.get_encoder()(ids)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"at": ("enc.sa.out",)}, r"fused at enc\.ff\.out and dec\.ff\.out, not at enc\.sa\.out"),
        ({"drop": 1.0}, "less than 1"),
        ({"grids": (0,)}, "greater than or equal to 1"),
    ],
)
def test_fusion_refuses_what_it_cannot_do(options, reason):
    with pytest.raises(MethodError, match=reason):
        methods.attach(model("bart"), methods.get("adem-vl", **options))


# UniAdapter


def layer_norm(u: Tensor, norm) -> Tensor:
    centred = u - u.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("cross_modal", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@torch.no_grad()
def test_uniadapter_is_the_formula_row_by_row(family, cross_modal, residual):
    options = {"rank": 8, "delta_scale": 0.7, "cross_modal": cross_modal, "query_residual": residual}
    built, recorders = recorded(family, methods.get("uniadapter", **options))
    ids = padded(text(), 4, built)
    built(ids, seen(), labels=text(length=3))
    for i in (0, 1):
        modal = built.pet[f"both_{i}_ff"]

        def z(u: Tensor, modal=modal) -> Tensor:
            return (layer_norm(u, modal.norm) @ modal.down.weight.T + modal.down.bias).clamp(min=0)

        def up(name: str, u: Tensor, modal=modal) -> Tensor:
            return z(u) @ modal.up[name].weight.T + modal.up[name].bias

        found, change = recorders["enc"].found[i], recorders["enc"].changes()[i]
        written = torch.stack([up("text" if n < 6 else "visual", found["x"][:, n]) for n in range(15)], dim=1)
        torch.testing.assert_close(change, 0.7 * written, **CLOSE)

        found, change = recorders["dec"].found[i], recorders["dec"].changes()[i]
        written = up("cross", found["x"])
        if cross_modal:
            written = layer_norm(written + up("text", found["x"]), built.pet[f"dec_{i}_ff_out"].delta.norm)
        if residual:
            written = written + up("text", found["q"])
        torch.testing.assert_close(change, 0.7 * written, **CLOSE)


@torch.no_grad()
def test_uniadapter_routes_rows_by_modality(family):
    """What is for visual tokens touches no text row before attention mixes them, and the other way round."""
    built, recorders = recorded(family, methods.get("uniadapter", rank=8))
    ids, feats = text(), seen(images=2)
    built(ids, feats)
    before = recorders["enc"].changes()[0]
    for name, moved, still in (("visual", slice(6, None), slice(6)), ("text", slice(6), slice(6, None))):
        kept = copy.deepcopy(built.pet["both_0_ff"].up.state_dict())
        built.pet["both_0_ff"].up[name].weight.add_(1.0)
        built(ids, feats)
        change = recorders["enc"].changes()[0]
        assert torch.equal(change[:, still], before[:, still])
        assert ((change - before)[:, moved].abs().amax(-1) > 1e-3).all()
        built.pet["both_0_ff"].up.load_state_dict(kept)
    built(ids, torch.zeros(2, 0, FEATS))  # all rows are text
    assert recorders["enc"].changes()[0].shape[1] == 6


@torch.no_grad()
def test_uniadapter_with_stacks_of_different_depth(family):
    depth = {"decoder_layers": 3} if family == "bart" else {"num_decoder_layers": 3}
    built = model(family, **depth)
    handle = methods.attach(built, methods.get("uniadapter", rank=8))
    ups = [sorted(built.pet[f"both_{i}_ff"].up) for i in range(3)]
    assert ups == [["cross", "text", "visual"]] * 2 + [["cross", "text"]]
    built(text(), seen())
    assert "both.ff, layers 0-1: norm.weight" in methods.explain(handle)


# READ


def recurrence(u: Tensor, module, gelu: bool) -> Tensor:
    """One example ``n d``, token by token."""
    rnn, state, out = module.rnn, torch.zeros(module.rnn.hidden_size), []
    for token in u:
        z = module.down.weight @ token + module.down.bias
        state = torch.tanh(rnn.weight_ih_l0 @ z + rnn.bias_ih_l0 + rnn.weight_hh_l0 @ state + rnn.bias_hh_l0)
        hidden = 0.5 * state * (1 + torch.erf(state / math.sqrt(2))) if gelu else state
        out.append(module.up.weight @ hidden + module.up.bias)
    return torch.stack(out)


@pytest.mark.parametrize("gelu", [False, True])
@torch.no_grad()
def test_read_recurs_over_an_examples_tokens_and_skips_padding(family, gelu):
    built, recorders = recorded(family, methods.get("read", gelu=gelu, rank=5))
    built(padded(text(), 4, built), seen())
    for i, (found, change) in enumerate(zip(recorders["enc"].found, recorders["enc"].changes(), strict=True)):
        module = built.pet[f"enc_{i}_ff_out"].delta
        for row, kept in enumerate(([*range(4), *range(6, 15)], list(range(15)))):
            written = recurrence(found["h"][row, kept], module, gelu)
            torch.testing.assert_close(change[row, kept], written, **CLOSE)


@torch.no_grad()
def test_read_looks_back_along_the_sequence_and_at_no_other_example(family):
    built, _ = attached(family, "read")
    module = built.pet["enc_0_sa_out"].delta
    u = torch.randn(3, 7, 32)
    whole = module(u)
    moved = u.clone()
    moved[1, 4] += 1
    change = (module(moved) - whole).abs().amax(-1)
    assert not change[[0, 2]].any() and not change[1, :4].any()
    assert (change[1, 4:] > 0).all()
    for row in range(3):
        torch.testing.assert_close(module(u[row : row + 1]), whole[row : row + 1], **CLOSE)
    torch.testing.assert_close(module(u[:, :4]), whole[:, :4], **CLOSE)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]]).bool()
    some = module(u, mask)
    for row in range(3):
        kept = mask[row]
        torch.testing.assert_close(some[row, kept], module(u[row : row + 1, kept])[0], **CLOSE)


def test_read_starts_near_zero_on_request():
    torch.manual_seed(0)
    built = model("bart")
    methods.attach(built, methods.get("read", start="near-zero", rank=32))
    values = torch.cat([p.flatten() for p in built.pet["enc_0_sa_out"].delta.rnn.parameters()])
    assert abs(values.std() - 1e-3) < 1e-4


def test_read_stays_in_the_encoder():
    with pytest.raises(MethodError, match=r"a Recurrent cannot stand at dec\.ff\.out"):
        methods.attach(model("bart"), methods.get("read", at=("dec.ff.out",)))


# All of them


@pytest.mark.parametrize(("name", "facts"), [
    ("clipfit distilled", {"in_encoder": True, "wrapped": True}),
    ("adem-vl", {"in_encoder": False, "wrapped": True}),
    ("adem-vl encoder", {"in_encoder": True, "wrapped": True}),
    ("uniadapter", {"in_encoder": False, "wrapped": True}),
    ("read", {"in_encoder": True, "wrapped": False}),
])  # fmt: skip
def test_facts(name, facts):
    shape = methods.Shape("bart", d=32, ff=48, heads=4, inner=32, encoder_layers=2, decoder_layers=2, vocab=60)
    (part,) = chosen(name).spec(shape).parts
    assert {key: getattr(part, key) for key in facts} == facts
    assert (part.routed, part.merges, part.cached) == (False, False, True)
    assert chosen(name).describe.startswith("Adaptation of ")


NEUTRAL = {
    "clipfit": ({}, "vector"),
    "clipfit distilled": ({"distill": 8.0}, "vector"),
    "adem-vl": ({"alpha": 0.0}, ""),
    "uniadapter": ({"rank": 8, "delta_scale": 0.0}, ""),
    "read": ({}, "up."),
}


@pytest.mark.parametrize("name", NEUTRAL)
@torch.no_grad()
def test_switched_off_it_changes_nothing(family, name):
    """With its scale or last projection at zero; fusion then leaves the text alone."""
    options, zero = NEUTRAL[name]
    plain = model(family)
    ids, labels = padded(text(), 4, plain), text(length=3)
    feats = seen() if name != "adem-vl" else torch.zeros(2, 0, FEATS)
    logits = plain(ids, feats, labels=labels).logits
    generated = plain.generate(ids, feats, num_beams=3, max_new_tokens=6, do_sample=False)
    methods.attach(plain, methods.get(name.split()[0], **options))
    for key, parameter in plain.pet.named_parameters():
        if zero and zero in key:
            parameter.zero_()
    assert torch.equal(plain(ids, seen(), labels=labels).logits, logits)
    assert torch.equal(plain.generate(ids, seen(), num_beams=3, max_new_tokens=6, do_sample=False), generated)


@each
@torch.no_grad()
def test_generation_with_and_without_cache_together_and_alone(family, name):
    """Beams of a batch, where every beam has its example's visual tokens, are those of its examples one by one."""
    built, _ = attached(family, name)
    ids, feats = padded(text(rows=3), 4, built), seen(rows=3, images=2)
    options = {"num_beams": 3, "num_return_sequences": 2, "do_sample": False, "min_new_tokens": 6, "max_new_tokens": 6}
    options |= {"output_scores": True, "return_dict_in_generate": True}

    def generated(rows: slice, **more) -> tuple[Tensor, Tensor]:
        found = built.generate(ids[rows, :4] if rows == slice(0, 1) else ids[rows], feats[rows], **options, **more)
        return found.sequences, found.sequences_scores

    sequences, scores = generated(slice(0, 3))
    assert len(sequences.unique(dim=0)) > 1
    uncached, uncached_scores = generated(slice(0, 3), use_cache=False)
    assert torch.equal(uncached, sequences)
    torch.testing.assert_close(uncached_scores, scores, atol=1e-5, rtol=1e-5)
    for row in range(3):
        alone, alone_scores = generated(slice(row, row + 1))
        assert torch.equal(alone, sequences[2 * row : 2 * row + 2])
        torch.testing.assert_close(alone_scores, scores[2 * row : 2 * row + 2], atol=1e-5, rtol=1e-5)


@each
def test_gradient_checkpointing_gives_the_same_gradients(family, name):
    """Also of two batches with different numbers of tokens before one backward pass."""
    gradients = []
    for checkpointing in (False, True):
        built, _ = attached(family, name)
        if checkpointing:
            getattr(built.lm, "activation_checkpointing_enable", built.lm.gradient_checkpointing_enable)()
        built.train()
        built.set_dropout(0.0)
        losses = []
        for ids, feats in ((padded(text(), 4, built), seen(images=2)), (text(length=5), seen(count=4))):
            losses.append(built(ids, feats, labels=text(length=3)).loss)
            losses += [m.penalty() for m in built.modules() if hasattr(m, "penalty")]
        sum(losses).backward()
        gradients.append({n: p.grad for n, p in built.named_parameters() if p.grad is not None and p.requires_grad})
    assert len(gradients[0]) > 5 and any("visual_embedding" in n for n in gradients[0])
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("ambient", [None, "vqa", "gqa"])
def test_gradient_checkpointing_of_two_tasks_before_one_backward_pass(family, ambient):
    """Every layer that is run again has the task of its own forward pass, whatever the method and the task by then."""
    gradients = []
    for checkpointing in (False, True):
        built = model(family).train()
        methods.attach(built, methods.get("vl-adapter-multiple", rank=4), tasks=("vqa", "gqa"))
        torch.manual_seed(1)
        perturb(built.pet, 0.2)
        built.set_dropout(0.0)
        if checkpointing:
            getattr(built.lm, "activation_checkpointing_enable", built.lm.gradient_checkpointing_enable)()
        losses = [built(text(), seen(), labels=text(length=3), task=task).loss for task in ("vqa", "gqa")]
        with context.task(ambient):
            sum(losses).backward()
        gradients.append({n: p.grad for n, p in built.named_parameters() if p.grad is not None})
    assert any(".gqa." in name for name in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@each
def test_half_precision_and_autocast(family, name):
    built, _ = attached(family, name)
    ids, feats, labels = padded(text(), 4, built), seen(), text(length=3)
    exact = built(ids, feats, labels=labels).loss
    built.train()
    built.set_dropout(0.0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = built(ids, feats, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.1, rtol=0.05)
    built.to(torch.bfloat16).zero_grad()
    if family == "t5":
        for block in (*built.lm.encoder.block, *built.lm.decoder.block):
            block.layer[-1].DenseReluDense.wo.float()
    loss = built(ids, feats.bfloat16(), labels=labels).loss
    loss = sum((m.penalty() for m in built.modules() if hasattr(m, "penalty")), loss)
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.2, rtol=0.1)
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.grad is not None)


@each
def test_two_steps_change_what_is_trained_and_nothing_else(family, name):
    built = model(family)
    handle = methods.attach(built, chosen(name))
    built.train()
    before = {key: p.detach().clone() for key, p in built.named_parameters()}
    optimizer = torch.optim.SGD([p for p in built.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        boxes = torch.rand(2, 2, 9, 4)
        loss = built(text(), seen(images=2), boxes, labels=text(length=3)).loss
        sum((m.penalty() for m in built.modules() if hasattr(m, "penalty")), loss).backward()
        optimizer.step()
    trained = set(handle.trainable_names())
    for key, parameter in built.named_parameters():
        if key in trained:
            assert parameter.grad.abs().max() > 0, key
        else:
            assert parameter.grad is None
            assert torch.equal(parameter, before[key]), key


@each
@torch.no_grad()
def test_saved_loaded_and_detached(family, name, tmp_path):
    built = model(family)
    before = {key: value.clone() for key, value in built.named_parameters()}
    logits = built(text(), seen()).logits
    handle = methods.attach(built, chosen(name))
    for parameter in handle.trained().values():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned = built(text(), seen()).logits
    assert not torch.allclose(tuned, logits, atol=1e-4)
    handle.save(tmp_path / "weights.safetensors")
    fresh = model(family)
    other = methods.attach(fresh, chosen(name))
    other.load(tmp_path / "weights.safetensors")
    assert torch.equal(fresh(text(), seen()).logits, tuned)
    for key in set(handle.trained()) & before.keys():
        built.get_parameter(key).copy_(before[key])
    handle.detach()
    assert torch.equal(built(text(), seen()).logits, logits)
    assert built.state_dict().keys() == model(family).state_dict().keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in built.modules())


@each
def test_a_copied_model_is_its_own(family, name):
    built, _ = attached(family, name)
    ids, feats = text(), seen()
    with torch.no_grad():
        built.generate(ids, feats, num_beams=2, max_new_tokens=2)
        logits = built(ids, feats).logits
        with torch.enable_grad():
            built(ids, feats)  # what it keeps of a forward pass is no obstacle
        twin = copy.deepcopy(built)
        assert torch.equal(twin(ids, feats).logits, logits)
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.requires_grad)
        assert not torch.allclose(twin(ids, feats).logits, logits, atol=1e-3)
        assert torch.equal(built(ids, feats).logits, logits)


# Counts on the real shapes

D, FF = 768, 3072
PROJECTOR = {"bart": 1_582_848, "t5": 1_581_312}
LAYERS = {"bart": 6, "t5": 12}
ENCODER_NORMS = {"bart": 13 * 2 * D, "t5": 25 * D}
FUSION_TABLES = 2 * (36 + 9) * D
MODAL = 2 * D + (D * 512 + 512) + 3 * (512 * D + D) + 2 * D  # norm, down, three ups, the decoder's norm
RECURRENT = (4 * D + 4) + (2 * 4 * 4 + 2 * 4) + (4 * D + D)


@pytest.fixture(scope="module")
def bases():
    return {family: backbones.build(f"{family}-base", feat_dim=2048, device="meta") for family in ("bart", "t5")}


def test_counts(bases, family):
    layers = LAYERS[family]
    wanted = {
        "clipfit": layers * D + ENCODER_NORMS[family],
        "adem-vl": FUSION_TABLES,
        "uniadapter": layers * MODAL,
        "read": 2 * layers * RECURRENT,
    }
    for name, trained in wanted.items():
        handle = methods.attach(bases[family], name)
        counted = handle.count()
        handle.detach()
        assert counted.trainable == PROJECTOR[family] + trained, name
        assert counted.total == counted.backbone + counted.projector + counted.new, name


def test_clipfit_is_the_published_size(bases):
    handle = methods.attach(bases["bart"], methods.get("clipfit", distill=8.0))
    counted = handle.count()
    handle.detach()
    assert (counted.trainable, counted.new, f"{counted.percent:.3f}") == (1_607_424, 0, "1.139")
