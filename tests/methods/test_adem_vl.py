"""ADEM-VL: the fusion written out, and whose visual tokens it fuses."""

import pytest
import torch
from related_models import CLOSE, FEATS, attached, model, recorded, seen, text
from tiny_models import perturb
from torch import Tensor

import methods
from methods import MethodError


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
    memory = built.pet["input"]
    assert memory.key_positions.shape == memory.value_positions.shape == (20, 32)
    tables = memory.key_positions, memory.value_positions
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
    memory = built.pet["input"]
    image = torch.randn(2, 1, 9, 32)
    one = memory.keys(image, torch.ones(2, 1, 9, dtype=torch.bool))
    two = memory.keys(image.repeat(1, 2, 1, 1), torch.ones(2, 2, 9, dtype=torch.bool))
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
