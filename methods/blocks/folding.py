"""Folding what stands at a site into the weights of the Linear that it stands at."""

from typing import Any

import torch

from methods.blocks.gates import GateBlock
from methods.blocks.lora import LoRABlock
from methods.blocks.patched_site import PatchedSite


def fold(site: PatchedSite, linear: Any, *, ahead: bool) -> None:
    """Change the weights of ``linear`` in place so that it alone returns what it and ``site`` return together.

    A low-rank map ``s · B · A`` is added to the weight. A factor per channel multiplies the weight's rows and the bias;
    where the factor acts on the Linear's input (``ahead``), it multiplies the weight's columns instead.
    """
    if isinstance(site.delta, LoRABlock):
        lora = site.delta
        linear.weight += (lora.scale * lora.b.weight @ lora.a.weight).to(linear.weight.dtype)
        return
    assert isinstance(site.gate, GateBlock)
    unread = torch.zeros(())  # a gate that can be folded is a trained vector and reads none of its inputs
    factor = site.gate.values(unread, unread, unread, unread).to(linear.weight.dtype)
    linear.weight *= factor if ahead else factor[:, None]
    if not ahead and linear.bias is not None:
        linear.bias *= factor
