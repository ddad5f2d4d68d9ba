"""Adapters of HF PEFT inside a language model. The library does the mathematics and knows the names in its files."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.core.errors import MethodError

NAME = "default"  # what PEFT calls an adapter that is given no name


class InjectedAdapter(nn.Module):
    """One PEFT adapter. Its layers stand inside the language model; this module, below ``pet``, holds the tensors that
    belong to no layer, which most types do not have.

    ``config`` is a ``peft.PeftConfig`` whose targets are full names of modules.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self._tuner: tuple[Any, ...] = ()  # in a tuple: it holds the language model, which has a place of its own
        self._before: dict[str, nn.Module] = {}

    @property
    def tuner(self) -> Any:
        """PEFT's model around the language model, once injected."""
        return self._tuner[0]

    def inject(self, lm: Any) -> Callable[[], None]:
        """Replace the targets by PEFT's layers around them, and return a function that puts the very same modules back.

        Raises MethodError, with ``lm`` as it was, for what the library refuses.
        """
        from peft import PEFT_TYPE_TO_TUNER_MAPPING

        before = self._before = dict(lm.named_modules())
        existing, flags = set(before.values()), {parameter: parameter.requires_grad for parameter in lm.parameters()}

        def undo() -> None:
            for name, module in before.items():
                parent, _, child = name.rpartition(".")
                if name and getattr(before[parent], child) is not module:
                    setattr(before[parent], child, module)
            vars(lm).pop("peft_config", None)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about norms, missing biases and CUDA kernels, all of which work
                self._tuner = (PEFT_TYPE_TO_TUNER_MAPPING[self.config.peft_type](lm, self.config, NAME),)
        except Exception as error:
            undo()
            if isinstance(error, TypeError | ValueError | AssertionError):
                raise MethodError(f"PEFT refuses {self.config.peft_type.value}: {error}") from error
            raise
        finally:
            for parameter, flag in flags.items():
                parameter.requires_grad_(flag)
        for module in lm.modules():
            if module not in existing:
                module.training = lm.training
        return undo

    def fold(self) -> None:
        """Fold the adapter into the weights of the modules that it was put around."""
        merged = self.tuner.merge_and_unload()
        for name in self.tuner.targeted_module_names:
            self._before[name].load_state_dict(merged.get_submodule(name).state_dict())

    def peft_file(self) -> tuple[Any, dict[str, Tensor]]:
        """Return configuration and tensors (:class:`methods.core.contracts.PeftExport`)."""
        from peft import get_peft_model_state_dict

        holder = nn.Module()  # in the place of a PeftModel, from which PEFT takes the prefixes of the names
        holder.base_model = self.tuner
        holder.peft_config = self.tuner.peft_config
        return self.config, get_peft_model_state_dict(holder, save_embedding_layers=False)


class InjectedAdaLoRA(InjectedAdapter):
    """AdaLoRA, which takes part in training: it prunes ranks to a budget by their importance, and a penalty keeps P and
    Q orthogonal (Zhang et al., ICLR 2023, section 3).

    ``warmup`` and ``final`` are the shares of the updates before and after the pruning. What PEFT's allocator remembers
    between updates is kept in buffers, so that it is part of every checkpoint.
    """

    sensitivity: Tensor
    uncertainty: Tensor
    kept: Tensor

    def __init__(self, config: Any, *, warmup: float, final: float) -> None:
        super().__init__(config)
        self.warmup = warmup
        self.final = final

    def inject(self, lm: Any) -> Callable[[], None]:
        """Inject as any adapter, then make the buffers, whose sizes are those of the injected layers."""
        undo = super().inject(lm)
        for name, parameter in lm.named_parameters():
            if ".ranknum." in name:  # a constant; PEFT's move to another device or dtype makes it trainable
                parameter.requires_grad_(False)
        size = sum(p.numel() for p in self._trained().values())
        ranks = sum(p.numel() for p in self._singular_values().values())
        first = next(iter(self._trained().values()))
        self.register_buffer("sensitivity", first.new_zeros(size))
        self.register_buffer("uncertainty", first.new_zeros(size))
        self.register_buffer("kept", torch.ones(ranks, dtype=torch.bool, device=first.device))
        return undo

    def penalty(self) -> Tensor:
        """Return ``weight · mean ‖PᵀP - I‖_F`` over the left and the right singular vectors of every target."""
        norms = []
        for name, p in self._trained().items():
            if ".lora_E." not in name:
                gram = p @ p.T if ".lora_A." in name else p.T @ p
                norms.append((gram - torch.eye(len(gram), dtype=p.dtype, device=p.device)).norm())
        return self.config.orth_reg_weight * torch.stack(norms).mean()

    @torch.no_grad()
    def after_update(self, step: int, total_steps: int) -> None:
        """Prune after update ``step`` (from 1) of ``total_steps``, while its gradients are still there."""
        config, allocator = self.config, self.tuner.rankallocator
        config.total_step = total_steps
        config.tinit, config.tfinal = int(self.warmup * total_steps), int(self.final * total_steps)
        if config.total_step - config.tfinal < 2:
            return  # no importance would be measured before the one time of pruning
        trained, values = self._trained(), self._singular_values()
        allocator.ipt = dict(trained)  # of the last update; PEFT only looks whether there was one
        allocator.exp_avg_ipt = _split_like(self.sensitivity, trained)
        allocator.exp_avg_unc = _split_like(self.uncertainty, trained)
        config.rank_pattern = {name: kept.view(-1).tolist() for name, kept in _split_like(self.kept, values).items()}
        self.tuner.update_and_allocate(step)
        for buffer, per_name in ((self.sensitivity, allocator.exp_avg_ipt), (self.uncertainty, allocator.exp_avg_unc)):
            if per_name:
                buffer.copy_(torch.cat([per_name[name].flatten() for name in trained]))
        self.kept.copy_(torch.tensor([kept for name in values for kept in config.rank_pattern[name]]))
        config.rank_pattern = None  # a file holds all ranks, the pruned ones as zeros

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.tuner.model.named_parameters() if ".lora_" in name}

    def _singular_values(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._trained().items() if ".lora_E." in name}


def _split_like(flat: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    parts = flat.split([p.numel() for p in parameters.values()])
    return {name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}


class CachedPrefix(nn.Module):
    """Trained keys and values in front of the decoder's self-attention (Li & Liang, 2021), from PEFT's encoder.

    They enter through the cache, as in ``PeftModelForSeq2SeqLM``: whenever the decoder starts from an empty one.
    ``config`` is a ``peft.PrefixTuningConfig``.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        from peft import PrefixEncoder

        self.config = config
        self.encoder = PrefixEncoder(config)

    def before_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Put the prefix into the decoder's cache (a hook); MethodError where gradient checkpointing drops that."""
        from transformers import DynamicCache, EncoderDecoderCache

        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length() > 0:
            return None
        if module.training and any(getattr(layer, "gradient_checkpointing", False) for layer in module.modules()):
            raise MethodError("gradient checkpointing drops the decoder's cache, which holds the prefix; turn it off")
        if past is None:
            past = EncoderDecoderCache(DynamicCache(), DynamicCache())
        ids = kwargs.get("input_ids")
        batch = len(ids if ids is not None else kwargs["inputs_embeds"])
        for layer, (key, value) in enumerate(zip(*self(), strict=True)):
            past.self_attention_cache.update(key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1), layer)
        return args, kwargs | {"past_key_values": past}

    def after_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Remove the cache from the output where the caller asked for none (a hook): generation would go on with it."""
        if kwargs.get("use_cache") is False:
            output.past_key_values = None
        return output

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, each ``layers heads length width``.

        The encoder's output is split as in PEFT: into keys and values of self- and of cross-attention, repeated once,
        of which the latter are dropped. So half of the output is not used, and layers half the depth apart share
        theirs.
        """
        cut = self._flat().unflatten(-1, (2 * self.config.num_layers, self.config.num_attention_heads, -1))
        twice = torch.cat([cut, cut], dim=1).permute(1, 2, 0, 3)
        return twice[0::4], twice[1::4]

    def peft_file(self) -> tuple[Any, dict[str, Tensor]]:
        """Return configuration and tensors (:class:`methods.core.contracts.PeftExport`)."""
        return self.config, {"prompt_embeddings": self._flat()}

    def _flat(self) -> Tensor:
        first = next(self.encoder.parameters())
        return self.encoder(torch.arange(self.config.num_virtual_tokens, device=first.device))
