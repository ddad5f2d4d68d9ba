"""From visual features to visual tokens (VL-T5 and VL-PET official code, ``VisualEmbedding``)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VisualEmbedding(nn.Module):
    """The visual projector: the sum of a feature, a position, an image-order and an object-order embedding.

    Positions are boxes and their area, ``Linear(5, d)``. Grid and video features have no boxes (all zero), so that
    branch gives one constant vector (quirk POS-CONST). Object order is looked up in the *word* embedding, counted from
    its end: those rows stay the language model's (quirk EMB-FROZEN).
    """

    def __init__(self, feat_dim: int, d: int, words: nn.Embedding, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.feat_embedding = nn.Sequential(nn.Linear(feat_dim, d), norm())
        self.absolute_vis_pos_embedding = nn.Sequential(nn.Linear(5, d), norm())
        self.img_order_embedding = nn.Embedding(2, d)
        self.obj_order_embedding = words

    def forward(self, features: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Embed features ``(b, v, f)`` of one image, or ``(b, 2, v, f)`` of two, as ``(b, v, d)`` or ``(b, 2 v, d)``.

        ``boxes`` are ``(..., v, 4)``; None stands for zeros. The objects of the second image are counted from 0 again.
        """
        images = 1 if features.dim() == 3 else features.shape[1]
        count = features.shape[-2]
        places = features.new_zeros(1, 5) if boxes is None else torch.cat([boxes, _area(boxes)], dim=-1)
        rows = self.obj_order_embedding.weight
        order = rows[rows.shape[0] - count :].flip(0)
        tokens = self.feat_embedding(features) + self.absolute_vis_pos_embedding(places) + order
        if images == 1 and features.dim() == 3:
            return tokens + self.img_order_embedding.weight[0]
        return (tokens + self.img_order_embedding.weight[:images, None]).flatten(1, 2)


def _area(boxes: Tensor) -> Tensor:
    # Quirk BOX-AREA: reads the corners as x1, x2, y1, y2.
    return ((boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])).unsqueeze(-1)


def pool(features: Tensor, boxes: Tensor | None, n_boxes: int) -> tuple[Tensor, Tensor | None]:
    """Max-pool a square grid ``(..., v, f)`` of more than ``n_boxes`` tokens to floor(sqrt(n_boxes)) a side; keep the
    first boxes.

    Two images are pooled each on its own. Smaller inputs pass unchanged.

    Raises:
        ValueError: the tokens do not form a square.
    """
    count = features.shape[-2]
    if count <= n_boxes:
        return features, boxes
    side, target = math.isqrt(count), math.isqrt(n_boxes)
    if side * side != count:
        raise ValueError(f"{count} visual tokens are no square grid, so they cannot be pooled to {target} x {target}")
    lead = features.shape[:-2]
    grid = features.reshape(-1, side, side, features.shape[-1]).permute(0, 3, 1, 2)
    pooled = F.adaptive_max_pool2d(grid, target).flatten(2).transpose(1, 2)
    pooled = pooled.reshape(*lead, target * target, features.shape[-1])
    return pooled, None if boxes is None else boxes[..., : target * target, :]
