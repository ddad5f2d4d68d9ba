"""What the joint encoder does with text and visual tokens, against HF's own encoder and by invariances."""

from typing import Any

import pytest
import tiny_vl as tiny
import torch
from torch import Tensor
from torch.nn import functional as F

import methods
from bench.backbones.visual import pool

families = pytest.mark.parametrize("family", tiny.FAMILIES)
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 2e-6}


@families
def test_without_visual_tokens_it_is_the_language_models_own_encoder(family: str) -> None:
    model, ids = tiny.model(family), tiny.text(family)
    ids[1, 4:] = model.lm.config.pad_token_id
    mask = (ids != model.lm.config.pad_token_id).long()
    ours, joint = model.encode(ids, torch.zeros(2, 0, tiny.F))
    states = ours.last_hidden_state
    theirs = model.lm.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(joint, mask)
    torch.testing.assert_close(states[mask.bool()], theirs[mask.bool()], **CLOSE)
    labels = tiny.text(family, length=3)
    ours = model(ids, torch.zeros(2, 0, tiny.F), labels=labels)
    plain = model.lm(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(ours.logits, plain.logits, **CLOSE)
    torch.testing.assert_close(ours.loss, plain.loss, **CLOSE)


@families
def test_padding_changes_nothing(family: str) -> None:
    """An example alone, and beside a longer one, with labels of other lengths."""
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features()
    pad = model.lm.config.pad_token_id
    alone = model(ids[:1, :3], feats[:1], labels=torch.tensor([[7, 8]]))
    padded = ids.clone()
    padded[0, 3:] = pad
    both = model(padded, feats, labels=torch.tensor([[7, 8, -100], [9, 10, 11]]))
    torch.testing.assert_close(both.logits[0, :2], alone.logits[0], **CLOSE)
    kept = [0, 1, 2, *range(6, 15)]
    torch.testing.assert_close(both.encoder_last_hidden_state[0, kept], alone.encoder_last_hidden_state[0], **CLOSE)
    arguments = {"max_length": 8, "num_beams": 1, "do_sample": False, "min_new_tokens": 6}
    one = model.generate(ids[:1, :3], feats[:1], **arguments)
    assert torch.equal(model.generate(padded, feats, **arguments)[:1], one)


@families
@pytest.mark.parametrize("method", ["none", "lst", "prompt"])
def test_padded_frames_can_be_masked(family: str, method: str) -> None:
    """Then they change nothing, in the encoder, the decoder, a side network; zero rows between frames are frames."""
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features()
    if method != "none":
        methods.attach(model, method)
    feats[0, 6:] = feats[1, 2] = 0
    model.masks_padding = True
    both = model(ids, feats).logits
    _, mask = model.encode(ids, feats)
    if method == "none":
        assert mask.tolist() == [[1] * 12 + [0] * 3, [1] * 15]
    torch.testing.assert_close(both[:1], model(ids[:1], feats[:1, :6]).logits, **CLOSE)
    arguments = {"max_length": 8, "num_beams": 3, "do_sample": False, "min_new_tokens": 6}
    one = model.generate(ids[:1], feats[:1, :6], **arguments)
    assert torch.equal(model.generate(ids, feats, **arguments)[:1], one)
    blind = model(ids, torch.zeros_like(feats)).logits
    model.masks_padding = False
    assert torch.equal(blind, model(ids, torch.zeros_like(feats)).logits)  # a blind model has no padding
    assert not torch.allclose(both[0], model(ids, feats).logits[0], atol=1e-4)


@families
def test_every_visual_token_is_attended_zero_rows_too(family: str) -> None:
    """Padded frames are not masked, in the encoder and in the decoder."""
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features()
    feats[:, 6:] = 0
    _, mask = model.encode(ids, feats)
    assert mask.tolist() == [[1] * 15] * 2
    assert not torch.allclose(model(ids, feats).logits, model(ids, feats[:, :6]).logits, atol=1e-4)


@families
def test_visual_tokens_have_no_positions_but_their_order_embedding(family: str) -> None:
    """With the order embedding zeroed, shuffled visual tokens give shuffled states and leave the text's alone."""
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features()
    shuffle = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    before = model(ids, feats[:, shuffle]).encoder_last_hidden_state
    with torch.no_grad():
        model.lm.get_input_embeddings().weight[-9:] = 0
    states, moved = (model(ids, f).encoder_last_hidden_state for f in (feats, feats[:, shuffle]))
    torch.testing.assert_close(moved[:, :6], states[:, :6], **CLOSE)
    torch.testing.assert_close(moved[:, 6:], states[:, 6:][:, shuffle], **CLOSE)
    assert not torch.allclose(before[:, :6], moved[:, :6], atol=1e-4)


def test_bart_gives_positions_and_the_embedding_norm_to_text_only() -> None:
    model, ids, feats = tiny.model("bart"), tiny.text("bart"), tiny.features()
    lengths = []
    encoder = model.lm.get_encoder()
    encoder.layernorm_embedding.register_forward_hook(lambda module, args, out: lengths.append(out.shape[1]))
    model(ids, feats).encoder_last_hidden_state.sum().backward()
    assert lengths == [6]
    used = encoder.embed_positions.weight.grad.abs().sum(1) > 0
    assert used.nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7]  # six words, BART's offset of 2


def test_t5_bias_acts_between_text_tokens_only() -> None:
    model, ids, feats = tiny.model("t5"), tiny.text("t5"), tiny.features()
    encoder = model.lm.get_encoder()
    biases: list[Tensor] = []
    for block in encoder.block:
        block.layer[0].SelfAttention.register_forward_pre_hook(
            lambda module, args, kwargs: biases.append(kwargs["position_bias"]), with_kwargs=True
        )
    model(ids, feats)
    table = encoder.block[0].layer[0].SelfAttention
    assert len(biases) == 2
    for bias in biases:
        assert bias.shape == (1, 4, 15, 15)
        torch.testing.assert_close(bias[:, :, :6, :6], table.compute_bias(6, 6))
        assert not bias[:, :, 6:].any()
        assert not bias[:, :, :, 6:].any()


@families
def test_the_decoder_is_fed_the_shifted_labels(family: str) -> None:
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features()
    config = model.lm.config
    labels = torch.tensor([[7, 8, 9], [10, 11, -100]])
    shifted = torch.tensor([[config.decoder_start_token_id, 7, 8], [config.decoder_start_token_id, 10, 11]])
    output = model(ids, feats, labels=labels)
    assert torch.equal(output.logits, model(ids, feats, decoder_input_ids=shifted).logits)
    by_token = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100)
    torch.testing.assert_close(output.loss, by_token.sum() / 5)
    assert model(ids, feats).loss is None
    assert model(ids, feats).logits.shape == (2, 1, tiny.WORDS)


# The visual embedding


def test_pooling_a_7x7_grid_is_a_2x2_maximum_at_stride_1() -> None:
    feats = torch.randn(3, 49, 4)
    pooled, boxes = pool(feats, None, 36)
    assert boxes is None
    grid = feats.view(3, 7, 7, 4)
    wanted = torch.stack([grid[:, y : y + 6, x : x + 6] for y in (0, 1) for x in (0, 1)]).amax(0)
    assert torch.equal(pooled, wanted.reshape(3, 36, 4))


def test_two_images_are_pooled_each_alone() -> None:
    feats, boxes = torch.randn(3, 2, 49, 4), torch.rand(3, 2, 49, 4)
    pooled, kept = pool(feats, boxes, 36)
    assert pooled.shape == (3, 2, 36, 4)
    for image in (0, 1):
        assert torch.equal(pooled[:, image], pool(feats[:, image], None, 36)[0])
    assert kept is not None
    assert torch.equal(kept, boxes[:, :, :36])


@pytest.mark.parametrize(("count", "n_boxes", "left"), [(36, 36, 36), (9, 36, 9), (64, 64, 64), (49, 40, 36)])
def test_pooling_keeps_what_is_small_enough(count: int, n_boxes: int, left: int) -> None:
    feats = torch.randn(2, count, 3)
    pooled, _ = pool(feats, None, n_boxes)
    assert pooled.shape == (2, left, 3)
    assert left != count or torch.equal(pooled, feats)


def test_a_grid_that_is_no_square_is_an_error() -> None:
    with pytest.raises(ValueError, match="50 visual tokens are no square grid"):
        pool(torch.zeros(1, 50, 3), None, 36)


@families
def test_the_embedding_is_the_sum_of_four(family: str) -> None:
    """Each branch computed by hand; order rows count from the end of the word embedding, for each image anew."""
    model, feats, boxes = tiny.model(family), tiny.features(images=2), torch.rand(2, 2, 9, 4)
    part, words = model.visual_embedding, model.lm.get_input_embeddings().weight
    x1, x2, y1, y2 = boxes.unbind(-1)  # read in this order, whatever was stored
    places = torch.cat([boxes, ((x2 - x1) * (y2 - y1))[..., None]], -1)

    def branch(which: Any, values: Tensor) -> Tensor:
        hidden = values @ which[0].weight.T + which[0].bias
        if family == "bart":
            return F.layer_norm(hidden, (32,), which[1].weight, which[1].bias, 1e-5)
        return hidden * (hidden.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * which[1].weight

    wanted = branch(part.feat_embedding, feats) + branch(part.absolute_vis_pos_embedding, places)
    for image in (0, 1):
        wanted[:, image] += part.img_order_embedding.weight[image]
        for k in range(9):
            wanted[:, image, k] += words[tiny.WORDS - 1 - k]
    torch.testing.assert_close(part(feats, boxes), wanted.flatten(1, 2), rtol=1e-5, atol=1e-5)
    one = part(feats[:, 0], boxes[:, 0])
    torch.testing.assert_close(one, wanted[:, 0], rtol=1e-5, atol=1e-5)


@families
def test_no_boxes_are_boxes_of_zeros(family: str) -> None:
    model, ids, feats = tiny.model(family, n_boxes=4), tiny.text(family), tiny.features(images=2)
    assert torch.equal(model(ids, feats).logits, model(ids, feats, boxes=torch.zeros(2, 2, 9, 4)).logits)
    assert model(ids, feats).encoder_last_hidden_state.shape == (2, 6 + 2 * 4, 32)


@families
def test_images_of_a_pair_are_told_apart(family: str) -> None:
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features(images=2)
    assert not torch.allclose(model(ids, feats).logits, model(ids, feats.flip(1)).logits, atol=1e-5)


@families
def test_gradients_reach_the_projector(family: str) -> None:
    model, ids, feats = tiny.model(family), tiny.text(family), tiny.features(images=2)
    model.lm.requires_grad_(False)
    model(ids, feats, labels=tiny.text(family, length=3)).loss.backward()
    for name, parameter in model.visual_embedding.named_parameters():
        if name == "absolute_vis_pos_embedding.0.weight":
            assert parameter.grad is None or not parameter.grad.any()  # the boxes are all zero
        elif "obj_order" in name:
            assert parameter.grad is None  # the word embedding stays frozen
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 1e-8, name


@families
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_runs_forward_and_backward(family: str, precision: str) -> None:
    from bench import device

    model, ids, feats = tiny.model(family).train(), tiny.text(family), tiny.features()
    ids[1, 4:] = model.lm.config.pad_token_id
    model.set_dropout(0.0)
    labels = tiny.text(family, length=3)
    exact = model(ids, feats, labels=labels).logits
    with device.autocast(torch.device("cpu"), precision):
        output = model(ids, feats, labels=labels)
    assert output.encoder_last_hidden_state.isfinite().all()
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.visual_embedding.parameters() if p.grad is not None)
    scale = exact.abs().max()
    assert 1e-5 * scale < (output.logits.float() - exact).abs().max() < 0.06 * scale


@families
def test_dropout_of_zero_is_none_and_more_is_felt_everywhere(family: str) -> None:
    model, ids, feats = tiny.model(family).train(), tiny.text(family), tiny.features()

    def twice() -> tuple[Tensor, Tensor]:
        return model(ids, feats).logits, model(ids, feats).logits

    assert not torch.equal(*twice())  # configurations say 0.1
    model.set_dropout(0)
    assert torch.equal(*twice())
    assert torch.equal(model.eval()(ids, feats).logits, model.train()(ids, feats).logits)
    model.set_dropout(0.4)
    assert not torch.equal(*twice())
    rates = {
        (type(module).__name__, name): getattr(module, name)
        for module in model.modules()
        for name in ("dropout", "activation_dropout", "p")
        if isinstance(getattr(module, name, None), float)
    }
    assert rates and set(rates.values()) == {0.4}


@families
def test_the_joint_sequence_is_dropped_before_the_first_layer(family: str) -> None:
    model = tiny.model(family).train()
    model.set_dropout(0.5)
    encoder, entering = model.lm.get_encoder(), []
    first = encoder.layers[0] if family == "bart" else encoder.block[0]
    first.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    model.encode(tiny.text(family), tiny.features())
    for part in (entering[0][:, :6], entering[0][:, 6:]):
        assert 0.3 < float((part == 0).float().mean()) < 0.7
