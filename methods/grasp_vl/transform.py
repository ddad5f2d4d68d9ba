"""A trained rotation of visual features, of which the first columns are left (GraSP-VL)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import STD, LayerFactory


class PrefixRotation(nn.Module):
    """``[x · U]`` with all but the first columns set to 0: ``... f -> ... f``.

    ``U = (I - A/2)⁻¹ (I + A/2)`` with the skew ``A = B · Cᵀ - C · Bᵀ``. With ``P = [B, -C]`` and ``Q = [C, B]``, both
    ``f 2r``, A is P · Qᵀ, and by the identity of Woodbury ``U = I + P · (I - ½ Qᵀ · P)⁻¹ · Qᵀ``.

    Args:
        columns: f.
        r: columns of B and C.
        prefix: columns that are left in evaluation.
        lengths: numbers of columns that training draws from; those from f on count as f, which is always among them.
        make: the maker of layers. B starts from N(0, 0.02²) and C at 0, so that U is exactly I.
    """

    def __init__(self, columns: int, r: int, prefix: int, lengths: tuple[int, ...], make: LayerFactory) -> None:
        super().__init__()
        self.columns = columns
        self.prefix = prefix
        self.lengths = (*(length for length in lengths if length < columns), columns)
        self.left = make.normal(columns, r, std=STD)  # B
        self.right = make.normal(columns, r, std=0.0)  # C

    def forward(self, x: Tensor) -> Tensor:
        """Rotate features ``... f`` and keep the first columns: in training a drawn number of them.

        The number is drawn by torch's generator of the CPU, once per call, on every device.
        """
        count = self.lengths[int(torch.randint(len(self.lengths), ()))] if self.training else self.prefix
        entering, leaving = self._factors()
        change = (x @ entering.to(x.dtype)) @ leaving[:, :count].to(x.dtype)
        return F.pad(x[..., :count] + change, (0, self.columns - count))

    def change_features(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Have the projector get the changed features, its first argument (a hook)."""
        return (self(args[0]), *args[1:]), kwargs

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """Return the largest entry of |UᵀU - I|, 0 for an orthogonal U."""
        entering, leaving = self._factors()
        identity = torch.eye(self.columns, device=entering.device)
        rotation = (identity + entering @ leaving).double()
        return {"orthogonality error": (rotation.T @ rotation - identity).abs().max().item()}

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Return P, ``f 2r``, and ``(I - ½ Qᵀ · P)⁻¹ · Qᵀ``, ``2r f``, in float32 under autocast, too."""
        with torch.autocast(self.left.device.type, enabled=False):
            b, c = self.left.float(), self.right.float()
            p, q = torch.cat([b, -c], dim=1), torch.cat([c, b], dim=1)
            identity = torch.eye(p.shape[1], device=p.device)
            return p, torch.linalg.solve(identity - 0.5 * (q.T @ p), q.T)
