"""The columns that tasks have in tables: their order, their titles and the units of their scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.run_entries import RunEntry, ScoreCell

METRICS = {"accuracy": ("Acc.", "accuracy in %"), "CIDEr": ("CIDEr", "CIDEr × 100")}  # in a column title, in a caption


@dataclass(frozen=True)
class TaskHeading:
    """What a table says of one of its task columns: label, metric, and the split that was scored ("" if unknown)."""

    task: str
    label: str
    metric: str
    split: str

    @property
    def title(self) -> str:
        """The title of the column, as in "VQAv2 Acc."."""
        return f"{self.label} {METRICS.get(self.metric, (self.metric, ''))[0]}".strip()

    @property
    def unit(self) -> str:
        """The unit of the scores, as in "accuracy in %"; the metric's name where it is not one of METRICS."""
        return METRICS.get(self.metric, ("", self.metric))[1]


def task_headings(entries: Sequence[RunEntry]) -> list[TaskHeading]:
    """Return the headings of the entries' tasks, in the order of the planned task lists.

    Every list is in the order of its suite. The longest come first, so that runs on a few tasks each do not rearrange
    the columns of the runs on all of them.
    """
    by_task: dict[str, list[ScoreCell]] = {}
    for entry in sorted(entries, key=lambda entry: -len(entry.cells)):
        for cell in entry.cells:
            by_task.setdefault(cell.task, []).append(cell)
    return [TaskHeading(task, cells[0].label, cells[0].metric, _split(cells)) for task, cells in by_task.items()]


def task_order(entries: Sequence[RunEntry]) -> list[str]:
    """Return the names of the entries' tasks in the order of their columns."""
    return [heading.task for heading in task_headings(entries)]


def _split(cells: Sequence[ScoreCell]) -> str:
    """The split of a column: that of the scores, or where there are none that of the plan."""
    splits = [cell.split for cell in cells if cell.score is not None] or [cell.split for cell in cells]
    return splits[-1]
