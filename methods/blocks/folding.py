"""Folding a modification into the Linear beside which it stands."""

from typing import Any

import torch

from methods.blocks.gates import Gate
from methods.blocks.lowrank import LowRank
from methods.blocks.patched_site import Patched


def fold(patched: Patched, linear: Any, *, ahead: bool) -> None:
    """Change a Linear so that it returns what it and ``patched`` return together.

    A low-rank map ``s · B · A`` is added to the weight; a factor per channel multiplies its rows and its bias, or where
    the factor stands ``ahead`` of the Linear its columns.
    """
    if isinstance(patched.delta, LowRank):
        low = patched.delta
        linear.weight += (low.scale * low.b.weight @ low.a.weight).to(linear.weight.dtype)
        return
    assert isinstance(patched.gate, Gate)
    unused = torch.zeros(())
    factor = patched.gate.values(unused, unused, unused, unused).to(linear.weight.dtype)
    linear.weight *= factor if ahead else factor[:, None]
    if not ahead and linear.bias is not None:
        linear.bias *= factor
