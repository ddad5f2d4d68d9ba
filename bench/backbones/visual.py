"""From visual features to visual tokens, as ``VisualEmbedding`` of the official VL-T5 and VL-PET code."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VisualEmbedding(nn.Module):
    """The visual projector: the sum of a feature, a position, an image-order and an object-order embedding.

    The position of a token is its box and the area of the box, five numbers, through ``Linear(5, d)``. Grid and video
    features have no boxes (all zeros), so that this branch gives the same vector for every token (quirk POS-CONST).
    The order of objects is looked up in the *word* embedding, counted from its last row; these rows belong to the
    language model (quirk EMB-FROZEN).

    The names of the submodules are those of the official code, and of saved files.
    """

    def __init__(
        self, feat_dim: int, d: int, word_embedding: nn.Embedding, build_norm: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.feat_embedding = nn.Sequential(nn.Linear(feat_dim, d), build_norm())
        self.absolute_vis_pos_embedding = nn.Sequential(nn.Linear(5, d), build_norm())
        self.img_order_embedding = nn.Embedding(2, d)
        self.obj_order_embedding = word_embedding

    def forward(self, features: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Embed features ``(b, v, f)`` of one image as ``(b, v, d)``, or ``(b, 2, v, f)`` of two as ``(b, 2 v, d)``.

        ``boxes`` are ``(..., v, 4)``; None stands for zeros. The objects of the second image are counted from 0 again.
        """
        single_image = features.dim() == 3
        count = features.shape[-2]
        positions = features.new_zeros(1, 5) if boxes is None else torch.cat([boxes, _area(boxes)], dim=-1)
        words = self.obj_order_embedding.weight
        object_order = words[words.shape[0] - count :].flip(0)
        tokens = self.feat_embedding(features) + self.absolute_vis_pos_embedding(positions) + object_order
        if single_image:
            return tokens + self.img_order_embedding.weight[0]
        return (tokens + self.img_order_embedding.weight[: features.shape[1], None]).flatten(1, 2)


def filled_rows(features: Tensor) -> Tensor:
    """Return the mask ``(b, v)`` of features ``(b, v, f)``, or ``(b, 2 v)`` of ``(b, 2, v, f)``: 0 for the zero rows
    with which a short video is filled up at its end. Where all rows are zero, as for a blind model, none is padding."""
    filled = (features != 0).any(dim=-1).flip(-1).cumsum(dim=-1).flip(-1) > 0
    return (filled | ~filled.any(dim=-1, keepdim=True)).flatten(1)


def _area(boxes: Tensor) -> Tensor:
    """Return the areas ``(..., v, 1)`` of boxes ``(..., v, 4)``, read as x1, x2, y1, y2 (quirk BOX-AREA)."""
    return ((boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])).unsqueeze(-1)


def pool(features: Tensor, boxes: Tensor | None, n_boxes: int) -> tuple[Tensor, Tensor | None]:
    """Max-pool a square grid ``(..., v, f)`` of more than ``n_boxes`` tokens to floor(sqrt(n_boxes)) tokens a side.

    Of boxes ``(..., v, 4)`` the first ones are kept. Two images are pooled separately, and inputs that are small enough
    are returned as they are.

    Raises:
        ValueError: v is no square number.
    """
    count = features.shape[-2]
    if count <= n_boxes:
        return features, boxes
    side, target = math.isqrt(count), math.isqrt(n_boxes)
    if side * side != count:
        raise ValueError(f"{count} visual tokens are no square grid, so they cannot be pooled to {target} x {target}")
    leading = features.shape[:-2]
    grid = features.reshape(-1, side, side, features.shape[-1]).permute(0, 3, 1, 2)
    pooled = F.adaptive_max_pool2d(grid, target).flatten(2).transpose(1, 2)
    pooled = pooled.reshape(*leading, target * target, features.shape[-1])
    return pooled, None if boxes is None else boxes[..., : target * target, :]
