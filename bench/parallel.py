"""One run on several processes: GPUs of one or more nodes, or CPUs, started by ``torchrun`` or by a job of Slurm.

Process 0 *leads*: it alone plans, claims, writes and prints. The others follow it from run to run
(:mod:`bench.follow`) and do their share of every batch. All of them take the same way through the stages of a run and
*meet* wherever data go between them. Every meeting begins with a small exchange between CPUs that says whether a
process has failed or is to stop, so nobody waits on a GPU for a process that does not come.

torch's DistributedDataParallel is not used. An update trains one task, so which parameters have a gradient changes from
update to update, a batch may have fewer examples than there are processes, and what is trained is small: one sum after
the backward pass is simpler, and costs less than buckets that wait for parameters without a gradient.
"""

import hashlib
import os
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench import device as dev
from bench import surroundings
from bench.environment import environment
from bench.errors import UsageError
from bench.files import one_line
from bench.record_schema import classify

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # as torchrun sets them
ARRIVAL = timedelta(minutes=10)  # until all processes must have started
#: The longest that one process may wait for another, which reads data or computes captions' scores meanwhile. One that
#: dies is noticed at once, by its connections.
PATIENCE = timedelta(hours=12)


class PeerFault(RuntimeError):
    """Another process of this run has failed, and all of them have left the run."""


class PeerLost(KeyboardInterrupt):
    """Another process has died, so that none of this group can go on; the run goes on from its last checkpoint."""


@dataclass(frozen=True)
class _Word:
    """What a process says at a meeting: why it is to stop, or how it has failed.

    ``surrounding`` is the entry of :data:`bench.states.SURROUNDINGS` where those are to blame.
    """

    stop: str | None = None
    fault: str | None = None
    surrounding: Any = None
    log: str = ""


class Group:
    """The processes that share the work of a run; this one is a single process, for which nothing is to be shared.

    Attributes:
        rank, size: the number of this process, from 0, and how many there are.
        is_meeting: whether this process is exchanging something; a signal must not raise an exception then.
        lost: what was noticed of a process that has died.
    """

    rank = 0
    size = 1
    is_meeting = False
    lost: PeerLost | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes, claims and prints."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of this process for the name that a user gave (:func:`bench.device.pick`)."""
        return dev.pick(name)

    def seed_dropout(self, seed: int, step: int) -> None:
        """Give every process but the first random numbers of its own, for the updates after ``step``."""

    def agree(self, stop: str | None) -> str | None:
        """Return why all processes are to stop now: the reason of the first that has one; None where none has."""
        return stop

    def share(self, compute: Callable[[], T]) -> T:
        """Return, in all processes, what ``compute`` returns in the first, the only one that calls it."""
        return compute()

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Give these tensors the values that they have in the first process."""

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes in the first, by rank, and nothing in the others."""
        return [value]

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace every gradient by its sum over the processes, and return the sum of the losses.

        A parameter that has no gradient in any process has none afterwards either: optimisers pass over it.
        """
        return loss

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block in all processes, whichever of them fails.

        Raises:
            PeerFault: another process has failed in the block, this one not.
            PeerLost: another process has died.
        """
        yield

    def send(self, order: Any) -> None:
        """Tell the others what to do next."""


class ProcessGroup(Group):
    """Several processes, connected by gloo between their CPUs and by NCCL between their GPUs.

    Args:
        rank, size: of :class:`Group`.
        local_rank: the number of this process on its node, which chooses its GPU.
    """

    def __init__(self, rank: int, size: int, local_rank: int) -> None:
        self.rank = rank
        self.size = size
        self._local_rank = local_rank
        self._gpus: Any = None  # the connections over which gradients go; None for those between CPUs
        self._device: torch.device | None = None

    def device(self, name: str) -> torch.device:
        """Return the GPU of this process, by its number on the node, or the CPU; connects the GPUs.

        Raises:
            UsageError: the name is that of one GPU, or the processes have devices of different kinds.
        """
        if ":" in name:
            raise UsageError(
                f"--device {name}: each of {self.size} processes has a GPU of its own; use auto, cuda, cpu"
            )
        device = dev.pick(name)
        if device.type == "cuda":
            device = torch.device("cuda", self._local_rank % torch.cuda.device_count())
            torch.cuda.set_device(device)
        if device != self._device:
            uuid = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None
            all_ids = self._everyone((device.type, uuid or self.rank))
            if len({kind for kind, _ in all_ids}) > 1:
                raise UsageError(f"--device {name}: not all of {self.size} processes have a GPU; use cpu, or fewer")
            if device.type == "cuda" and len(set(all_ids)) == self.size:  # NCCL takes no two processes of one GPU
                self._gpus = dist.new_group(backend="nccl", timeout=PATIENCE)
            self._device = device
        return device

    def seed_dropout(self, seed: int, step: int) -> None:
        if not self.leads:
            digest = hashlib.sha256(f"{seed}/{self.rank}/{step}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:7], "big"))

    def agree(self, stop: str | None) -> str | None:
        return self._meet(_Word(stop))[0]

    def share(self, compute: Callable[[], T]) -> T:
        values = [compute() if self.leads else None]
        self._meet()
        self._exchange(lambda: dist.broadcast_object_list(values, src=0))
        return cast(T, values[0])

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        values = self.share(lambda: {name: tensor.detach().cpu() for name, tensor in tensors.items()})
        if not self.leads:
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(values[name])

    def gather(self, value: T) -> list[T]:
        self._meet()
        values: list[Any] = [None] * self.size if self.leads else []
        self._exchange(lambda: dist.gather_object(value, values if self.leads else None, dst=0))
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        present = [p.grad is not None for p in parameters]
        _, alike = self._meet(mark=zlib.crc32(bytes(present)))
        if not alike:  # a share without examples has none
            mask = torch.tensor(present, dtype=torch.uint8)
            self._exchange(lambda: dist.all_reduce(mask, dist.ReduceOp.MAX))
            present = mask.bool().tolist()
        loss = loss.clone()
        summands: dict[torch.dtype, list[Tensor]] = {loss.dtype: [loss]}
        for parameter in (p for p, has in zip(parameters, present, strict=True) if has):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            summands.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for tensors in summands.values():
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            self._exchange(partial(dist.all_reduce, flat, group=self._gpus))
            parts = flat.split([tensor.numel() for tensor in tensors])
            torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])
        return loss

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except (PeerFault, PeerLost):  # at that meeting all processes have left the block
            raise
        except BaseException as error:
            with suppress(PeerFault):  # this process has one of its own
                self._meet(self._word_of(error))
            raise
        self._meet()

    def send(self, order: Any) -> None:
        self._exchange(lambda: dist.broadcast_object_list([order], src=0))

    def receive(self) -> Any:
        """Wait for what the first process sends: an order, or an exit code."""
        orders = [None]
        self._exchange(lambda: dist.broadcast_object_list(orders, src=0))
        return orders[0]

    def leave(self, code: int) -> None:
        """Close the connections; the first process lets the others end with this exit code."""
        if self.leads:
            self.send(code)
        dist.destroy_process_group()

    def _word_of(self, error: BaseException) -> _Word:
        text = f"process {self.rank} of {self.size} on {environment()['host']}"
        fault = surroundings.explain(error)
        if isinstance(fault, surroundings.SurroundingsFault):
            return _Word(fault=f"{text}: {fault.detail}", surrounding=fault.name)
        kind = "is out of memory, " if classify(error) == "oom" else ""
        log = "".join(traceback.format_exception(error))
        return _Word(fault=f"{text}: {kind}{type(error).__name__}: {one_line(error)}", log=log)

    def _meet(self, word: _Word = _Word(), mark: int = 0) -> tuple[str | None, bool]:
        """Exchange words; return why all processes are to stop, if they are, and whether all marks are the same.

        Raises:
            PeerFault: another process has failed.
            PeerLost: another process has died.
        """
        header = torch.tensor([word.stop is not None, word.fault is not None, mark, -mark], dtype=torch.int64)
        self._exchange(lambda: dist.all_reduce(header, dist.ReduceOp.MAX))
        stopped, failed, high, low = header.tolist()
        words = self._everyone(word) if stopped or failed else []
        for other in words:
            if other.fault is not None and other is not words[self.rank]:
                error = PeerFault(other.fault)
                error.add_note(other.log)
                if other.surrounding is None:
                    raise error
                raise error from surroundings.SurroundingsFault(other.surrounding, other.fault)
        return next((other.stop for other in words if other.stop is not None), None), high == -low

    def _everyone(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        self._exchange(lambda: dist.all_gather_object(values, value))
        return values

    def _exchange(self, collective: Callable[[], object]) -> None:
        """Run a collective operation of torch; PeerLost where another process does not take part because it died."""
        self.is_meeting = True
        try:
            collective()
        except RuntimeError as error:
            self.lost = PeerLost(f"another of {self.size} processes has ended ({one_line(error)[:200]})")
            raise self.lost from error
        finally:
            self.is_meeting = False


ALONE = Group()
_current: Group = ALONE


def current() -> Group:
    """Return the group of this process: a single one, unless :func:`join` was called."""
    return _current


def join() -> ProcessGroup:
    """Wait for the processes that the environment names; return their group, which is the :func:`current` one from now.

    Raises:
        UsageError: the environment is not that of a process of several, or not all of them have come.
    """
    global _current
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but {', '.join(missing)} not set; start "
            "processes by torchrun, or unset WORLD_SIZE"
        )
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in VARIABLES[:3])
        store, rank, size = next(dist.rendezvous("env://", timeout=ARRIVAL))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"MASTER_ADDR: {os.environ['WORLD_SIZE']} processes do not meet: {one_line(error)}") from error
    group = ProcessGroup(rank, size, local_rank)
    _current = group
    return group
