"""READ: the recurrence written out, and what it looks at."""

import math

import pytest
import torch
from related_models import CLOSE, attached, model, padded, recorded, seen, text
from torch import Tensor

import methods
from methods import MethodError


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
