"""Everything that depends on the device: placement, precision, seeds, clocks, memory.

``make test-gpu`` tests what a CUDA device does; all other tests use substituted statistics and need none.
"""

import os
import platform
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from bench.errors import UsageError

MEMORY_DEFINITION = (
    "Peak bytes while a phase ran. allocated, reserved: torch's caching allocator, peaks reset at the start of the "
    "phase; device_used: total minus free memory of the whole device at the end of the phase, other processes "
    "included; "
    "host_rss: resident memory of this process, sampled every 50 ms. The train phase includes validation where the "
    "recipe asks for it. null: this device has no such figure."
)


def pick(name: str = "auto") -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: the name is none of these, or there is no such CUDA device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"--device {name}: torch sees {count} CUDA devices here; use --device cpu or auto")
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which forward passes run: torch.autocast for ``bf16``, an empty one for ``fp32`` and
    ``tf32``."""
    return nullcontext() if precision in ("fp32", "tf32") else torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Let a GPU round the factors of float32 matrix products to TF32 in the block if the precision is ``tf32``, and
    only then.

    torch 1.8, with which the published numbers were made, did so unless it was switched off (quirk TF32). It holds for
    backward passes as well, and means nothing on a CPU. The setting before is restored afterwards.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Return the state of torch's generators on the CPU and on all CUDA devices, as tensors; dropout uses them."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: dict[str, Any]) -> None:
    """Set the generators to a state that :func:`rng_state` returned; CUDA states are ignored where there is no CUDA."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator of torch, of a GPU or of the CPU, had not enough memory."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory: you tried to allocate" in str(error)


def free_memory(device: torch.device) -> None:
    """Give memory back that torch holds and does not use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def clock(device: torch.device) -> float:
    """Return the seconds of a monotonic clock, after waiting for all work that is queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@lru_cache
def default_threads() -> int:
    """Return the number of CPU threads that torch has where nobody sets another: that of the first call."""
    return torch.get_num_threads()


def hardware_key(device: torch.device) -> str:
    """Return a name such that timings with equal names are comparable: the GPU, with "TF32" where matrix products are
    rounded so (:func:`matrix_products`), or the CPU and number of threads.

    >>> hardware_key(torch.device("cpu")).startswith("cpu: ")
    True
    """
    if device.type == "cuda":
        rounding = ", TF32" if torch.backends.cuda.matmul.allow_tf32 else ""
        return f"cuda: {torch.cuda.get_device_name(device)}{rounding}"
    return f"cpu: {cpu_name()}, {torch.get_num_threads()} threads"


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Memory:
    """Peak memory by phase, per :data:`MEMORY_DEFINITION`."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.init()  # the allocator's peaks cannot be reset before
        self.device = device
        self.phases: dict[str, dict[str, int | None]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the peaks while the block runs; a name that is entered again keeps the higher ones."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        with _PeakRss() as rss:
            try:
                yield
            finally:
                now: dict[str, int | None] = {"allocated": None, "reserved": None, "device_used": None}
                if cuda:
                    free, total = torch.cuda.mem_get_info(self.device)
                    now["allocated"] = torch.cuda.max_memory_allocated(self.device)
                    now["reserved"] = torch.cuda.max_memory_reserved(self.device)
                    now["device_used"] = total - free
                now["host_rss"] = rss.peak()
                before = self.phases.get(name, {})
                self.phases[name] = {k: _higher(before.get(k), v) for k, v in now.items()}


def _higher(a: int | None, b: int | None) -> int | None:
    return max((v for v in (a, b) if v is not None), default=None)


class _PeakRss:
    """The highest resident size of this process that a thread sampled, in bytes."""

    def __enter__(self) -> "_PeakRss":
        self._process = psutil.Process(os.getpid())
        self._highest = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            self.peak()

    def peak(self) -> int:
        """Return the peak so far in bytes, including the present size."""
        self._highest = max(self._highest, self._process.memory_info().rss)
        return self._highest

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()


def size(tensors: Iterable[Tensor | None]) -> int:
    """Return the bytes of the storages of these tensors, each storage counted once: ties and views cost nothing."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({StorageWeakRef(storage): storage.nbytes() for storage in storages}.values())


def analytic(model: nn.Module, optimizer: int | None, activations: int | None) -> dict[str, int | None]:
    """Return memory by purpose, in bytes: all weights, the trainable ones among them, their gradients, optimiser state,
    activations.

    Gradients have the size of the trainable weights: that is what one backward pass allocates.
    """
    trainable = size(p for p in model.parameters() if p.requires_grad)
    return {
        "weights": size([*model.parameters(), *model.buffers()]),
        "trainable": trainable,
        "gradients": trainable,
        "optimizer": optimizer,
        "activations": activations,
    }


class SavedActivations:
    """Context that counts the bytes which autograd keeps for the backward pass.

    Each storage counts once, those of parameters and buffers do not; the sum is in ``bytes``.
    """

    def __init__(self, model: nn.Module) -> None:
        # Weak references, because they also keep a freed storage's address from being given to another one.
        self._counted = {StorageWeakRef(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]}
        self.bytes = 0

    def _pack(self, tensor: Tensor) -> Tensor:
        # A sparse tensor has no storage of its own, but one for its entries and one for where they are.
        parts = [tensor.detach()._indices(), tensor.detach()._values()] if tensor.is_sparse else [tensor]
        for storage in (part.untyped_storage() for part in parts):
            if (reference := StorageWeakRef(storage)) not in self._counted:
                self._counted.add(reference)
                self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> "SavedActivations":
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)
