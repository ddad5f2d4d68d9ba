"""What is checked of the inputs of runs before anything expensive begins."""

from collections.abc import Sequence
from typing import Any

from bench.errors import UsageError


def require_inputs(cells: Sequence[Any], run_execution: Any) -> None:
    """Check what costs nothing to know, also where all runs are done: backbones have weights, and a task the split
    that is to be predicted.

    Raises:
        UsageError: otherwise.
    """
    from bench import backbones
    from bench.predict import require_split

    for backbone in dict.fromkeys(cell.backbone for cell in cells):
        backbones.require_weights(backbone)
    if run_execution.predict:
        require_split([cell.run for cell in cells if cell.run], run_execution.predict)


def check_inputs(runs: Sequence[Any], run_execution: Any, *, partial: bool) -> None:
    """Check all data and checkpoints that the runs will read before anything expensive begins.

    Raises:
        UsageError: a data root is not there, what a run needs of it is faulty, or unless ``partial`` it is not the
            published data although it is called so; a backbone has no weights.
    """
    from bench import backbones
    from bench.cli.data import show_progress
    from bench.data.check import check_for_runs
    from bench.sweep.claim_files import lease_seconds

    lease_seconds()
    lacks = check_for_runs(runs, run_execution, show_progress)
    if lacks and not partial:
        raise UsageError(
            f"--data official: these are not the published data: {'; '.join(lacks)}; complete them (`python -m bench "
            "data check ROOT`), call them otherwise (--data NAME=PATH), or add --partial: the runs are then marked in "
            "tables and never compared with the paper"
        )
    if run_execution.predict:
        from bench.predict import check_split

        check_split(runs, run_execution, run_execution.predict)
    for backbone in dict.fromkeys(run.backbone for run in runs):
        backbones.require_checkpoint(backbone)
