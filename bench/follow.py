"""The processes of a run that follow the first one: they do their share of its work and write nothing."""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.device import matrix_products
from bench.events import RunHold
from bench.parallel import PeerLost, ProcessGroup
from bench.run import run_stages
from bench.run_context import STOP_SIGNALS, RunContext
from bench.run_dir import RunDir
from bench.stage_outputs import StageOutputs


class FollowedRunDir(RunDir):
    """The directory of a run in a process that follows: what the stages of a run write goes nowhere."""

    @contextmanager
    def writing(self, path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
        yield io.BytesIO()

    def append(self, path: Path, row: dict[str, Any]) -> None:
        pass

    def remove(self, path: Path) -> None:
        pass

    def save_weights(self, save: Callable[[Path], None], path: Path) -> None:
        pass

    def flush(self) -> None:
        pass


def follow(group: ProcessGroup) -> int:
    """Take part in every run that the first process executes; return the exit code with which it lets this one end.

    A signal to this process stops all of them: at the next update of the run, which then saves a checkpoint.

    Raises:
        PeerLost: another process has died.
    """
    hold = RunHold()

    def stop(number: int, frame: object) -> None:
        hold.stop = signal.Signals(number).name

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    while not isinstance(order := group.receive(), int):
        run, execution, results = order
        context = RunContext(run, execution, FollowedRunDir(results, run.id), hold=hold)
        try:
            with matrix_products(run.recipe.precision), group.together():
                run_stages(context, StageOutputs())
        except PeerLost:
            raise
        except (Exception, KeyboardInterrupt):  # all processes have left the run, and the first writes down why
            continue
    return order
