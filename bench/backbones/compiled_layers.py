"""The layers of a backbone compiled by torch.compile."""

import torch
from torch import nn

from bench.errors import UsageError


def require_compiler(device: torch.device) -> None:
    """Raise UsageError where torch.compile lacks what it needs for a device: a C++ compiler, on a GPU Triton."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UsageError("--compile: torch.compile needs Triton for a GPU; install triton, or leave --compile out")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UsageError(
            "--compile: torch.compile needs a C++ compiler (g++, or the one that CXX names); leave --compile out"
        ) from None


def compile_layers(model: nn.Module) -> None:
    """Have torch compile every layer of the encoder and the decoder of a language model when it is first called.

    Each is compiled by itself, because what a method does with the task and the visual tokens is looked up between
    layers, which torch.compile cannot trace. Random numbers stay those of torch's own generators, so that dropout draws
    what it draws without: results are the same to rounding.
    """
    import torch._inductor.config

    torch._inductor.config.fallback_random = True
    for stack in (model.lm.get_encoder(), model.lm.get_decoder()):  # type: ignore[operator, union-attr]
        layers = next(child for child in stack.children() if isinstance(child, nn.ModuleList))
        for layer in layers:
            layer.compile()
