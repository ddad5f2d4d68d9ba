"""A recurrence along the sequence inside a bottleneck."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory

NEAR_ZERO = 1e-3


class RecurrentBlock(nn.Module):
    """``W_up · s_n + b_up``, where ``s_n = tanh(W_in · z_n + b_in + W_s · s_(n-1) + b_s)`` runs over
    ``z_n = W_down · u_n + b_down`` from s = 0 on; with ``gelu``, of s_n.

    Padding is left out of the chain, wherever it stands: an example's tokens get the result that they get without any
    padding. The weights of the recurrence start at U(±1/√r), torch's default, or with ``near_zero`` at N(0, 0.001²).
    """

    def __init__(
        self, d_in: int, r: int, d_out: int, *, gelu: bool, near_zero: bool, init: str, make: LayerFactory
    ) -> None:
        super().__init__()
        self.down = make.linear(d_in, r, init)
        self.rnn = nn.RNN(r, r, batch_first=True, device=make.device, dtype=make.dtype)
        self.gelu = gelu
        self.up = make.linear(r, d_out, init)
        for parameter in self.rnn.parameters() if near_zero else ():
            nn.init.normal_(parameter, std=NEAR_ZERO)

    def forward(self, u: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """``b n d_in -> b n d_out``; ``token_mask`` is ``b n`` bool, False for padding, or None where there is none."""
        z = self.down(u)
        if token_mask is None:
            states = self._run(z)
        else:
            order = (
                (~token_mask).byte().argsort(dim=1, stable=True).unsqueeze(-1).expand_as(z)
            )  # moves padding to the end
            states = self._run(z.gather(1, order))
            states = torch.zeros_like(states).scatter(1, order, states)
        return self.up(F.gelu(states) if self.gelu else states)

    def _run(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # nn.RNN takes inputs of its weights' dtype only
            return self.rnn(z.to(self.down.weight.dtype))[0]
