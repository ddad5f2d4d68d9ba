"""The optimiser and the learning-rate schedule of the official recipe."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from methods.core.sites import is_norm

#: Parameters whose official names contain one of these get no weight decay there. HF calls its norms ``layer_norm`` and
#: ``layernorm_embedding``, so their *weights* are decayed, as in the official runs (quirk WD-LN).
NO_DECAY = ("bias", "LayerNorm.weight")
BETAS, EPSILON = (0.9, 0.999), 1e-6


class OfficialAdamW(torch.optim.Optimizer):
    """AdamW as transformers 4.2.1 had it (quirk ADAMW-OLD).

    It differs from ``torch.optim.AdamW`` twice: epsilon is added to the square root of the *uncorrected* second moment,
    and the decay is applied after the update, to the updated weight. A parameter without a gradient is left alone: its
    weight, its moments and its number of steps stay what they are.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for (step, *_), tensors in self._with_gradients(group["params"]).items():
                params, gradients, means, squares = (list(column) for column in zip(*tensors, strict=True))
                torch._foreach_mul_(means, BETAS[0])
                torch._foreach_add_(means, gradients, alpha=1 - BETAS[0])
                torch._foreach_mul_(squares, BETAS[1])
                torch._foreach_addcmul_(squares, gradients, gradients, value=1 - BETAS[1])
                corrected = (1 - BETAS[1] ** step) ** 0.5 / (1 - BETAS[0] ** step)
                scales = torch._foreach_sqrt(squares)
                torch._foreach_add_(scales, EPSILON)
                torch._foreach_addcdiv_(params, means, scales, value=-group["lr"] * corrected)
                torch._foreach_add_(params, params, alpha=-group["lr"] * group["weight_decay"])

    def _with_gradients(self, params: Iterable[Tensor]) -> dict[tuple[Any, ...], list[tuple[Tensor, ...]]]:
        """Count a step of every parameter that has a gradient; return it with its gradient and both moments, by the
        number of its steps and by what one operation on many tensors asks of them."""
        columns: dict[tuple[Any, ...], list[tuple[Tensor, ...]]] = defaultdict(list)
        for p in params:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            state["step"] += 1
            columns[state["step"], p.device, p.dtype].append((p, p.grad, state["exp_avg"], state["exp_avg_sq"]))
        return columns


def groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    projector_lr: float | None = None,
    *,
    decay: str = "official",
    stated: Mapping[str, bool] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Split the trainable parameters (each once) by weight decay, and into the visual projector and the rest.

    Every group has its peak learning rate as ``peak``; the projector's is ``projector_lr`` where that is given.

    Args:
        model: the model with its method attached.
        lr, weight_decay, projector_lr: peak learning rates, and the decay of what is decayed.
        decay: which parameters are decayed: ``official``, as in the official code by the official names of tensors;
            ``weights-only``, all but biases and norms, whatever their names.
        stated: whether the official code decays a parameter, by its name, where the name itself would tell otherwise
            (:meth:`methods.core.handle.Handle.official_decay`).
    """
    by_kind: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            by_name = not any(part in name for part in NO_DECAY)
            decayed = stated.get(name, by_name)
            if decay == "weights-only":
                decayed = not is_bias_or_norm(model, name) and stated.get(name, True)
            by_kind.setdefault((name.startswith("visual_embedding."), decayed), []).append(p)
    return [
        {
            "params": params,
            "weight_decay": weight_decay if decayed else 0.0,
            "peak": projector_lr if projector and projector_lr else lr,
        }
        for (projector, decayed), params in by_kind.items()
    ]


def is_bias_or_norm(model: nn.Module, name: str) -> bool:
    """Return whether a parameter belongs to a norm or is a bias, among them tables of biases; the weight of a Linear is
    neither, also where it generates biases.

    >>> parts = {"bias_maker": nn.Linear(2, 2), "ln": nn.LayerNorm(2), "position_bias": nn.Embedding(2, 2)}
    >>> [name for name, _ in nn.ModuleDict(parts).named_parameters() if is_bias_or_norm(nn.ModuleDict(parts), name)]
    ['bias_maker.bias', 'ln.weight', 'ln.bias', 'position_bias.weight']
    """
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    holds_biases = "bias" in path.rpartition(".")[2] and not isinstance(owner, nn.Linear)
    return is_norm(owner) or "bias" in leaf or holds_biases


def build(
    model: nn.Module,
    kind: str,
    lr: float,
    weight_decay: float,
    projector_lr: float | None = None,
    *,
    decay: str = "official",
    stated: Mapping[str, bool] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Build ``adamw`` (torch, fused) or ``adamw-official`` over the trainable parameters of a model; the other
    arguments are those of :func:`groups`."""
    parameter_groups = groups(model, lr, weight_decay, projector_lr, decay=decay, stated=stated)
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
