"""The optimiser and the learning-rate schedule of the official recipe."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Parameters whose names contain one of these get no weight decay. HF calls its norms ``layer_norm`` and
#: ``layernorm_embedding``, so their *weights* are decayed, as in the official runs (quirk WD-LN).
NO_DECAY = ("bias", "LayerNorm.weight")
BETAS, EPSILON = (0.9, 0.999), 1e-6


class OfficialAdamW(torch.optim.Optimizer):
    """AdamW as transformers 4.2.1 had it (quirk ADAMW-OLD).

    It differs from ``torch.optim.AdamW`` twice: epsilon is added to the square root of the *uncorrected* second moment,
    and the decay is applied after the update, to the updated weight.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                state["step"] += 1
                state["exp_avg"].mul_(BETAS[0]).add_(p.grad, alpha=1 - BETAS[0])
                state["exp_avg_sq"].mul_(BETAS[1]).addcmul_(p.grad, p.grad, value=1 - BETAS[1])
                corrected = (1 - BETAS[1] ** state["step"]) ** 0.5 / (1 - BETAS[0] ** state["step"])
                p.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(EPSILON), value=-group["lr"] * corrected)
                p.add_(p, alpha=-group["lr"] * group["weight_decay"])


def groups(model: nn.Module, lr: float, weight_decay: float, projector_lr: float | None = None) -> list[dict[str, Any]]:
    """Split the trainable parameters (each once) by weight decay, and into the visual projector and the rest.

    Every group has its peak learning rate as ``peak``; the projector's is ``projector_lr`` where that is given.
    """
    by_kind: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            key = (name.startswith("visual_embedding."), any(part in name for part in NO_DECAY))
            by_kind.setdefault(key, []).append(p)
    return [
        {
            "params": params,
            "weight_decay": 0.0 if undecayed else weight_decay,
            "peak": projector_lr if projector and projector_lr else lr,
        }
        for (projector, undecayed), params in by_kind.items()
    ]


def build(
    model: nn.Module, kind: str, lr: float, weight_decay: float, projector_lr: float | None = None
) -> torch.optim.Optimizer:
    """Build ``adamw`` (torch, fused) or ``adamw-official`` over the trainable parameters of a model."""
    parameter_groups = groups(model, lr, weight_decay, projector_lr)
    if kind == "adamw-official":
        return OfficialAdamW(parameter_groups, lr, weight_decay)
    return torch.optim.AdamW(parameter_groups, lr=lr, betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=True)


def rate(step: int, total: int, warmup: float) -> float:
    """Return the factor on the peak learning rate at an update, of which ``step`` were made before.

    It rises linearly from 0 over ``int(warmup * total)`` updates, then falls linearly to 0 (the schedule
    ``get_linear_schedule_with_warmup`` of transformers, as in the official code).

    >>> [rate(s, 100, 0.1) for s in (0, 5, 10, 55, 100)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup_steps = int(warmup * total)
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (total - step) / max(1, total - warmup_steps))
