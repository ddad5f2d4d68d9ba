"""The results table in the form of the papers: methods by tasks, with trainable share and average."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.run_entries import RunEntry, ScoreCell
from bench.report.stats import finite_only
from bench.report.table import (
    ABSENT,
    LONG,
    Column,
    DraftValue,
    Table,
    entries_by_label,
    failure_notes,
    group_entries,
    is_reference,
    ranked_rows,
    row_marks,
    seeds_phrase,
    slug,
    title_of,
)

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


def results_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table per backbone and suite; rows are in the order of the sweep, and an average follows the tasks."""
    return [_results(group) for group in group_entries(entries, "backbone", "suite")]


def _results(entries: Sequence[RunEntry]) -> Table:
    by_label = entries_by_label(entries)
    headings = task_headings(entries)
    tasks = [heading.task for heading in headings]
    columns = [Column("percent", "Trainable (%)")]
    columns += [Column(heading.task, heading.title, better=+1) for heading in headings]
    if len(headings) > 1:
        columns.append(Column("average", "Avg.", better=+1))
    drafts = {label: [_draft(seeds, column.key, tasks) for column in columns] for label, seeds in by_label.items()}
    references = {label for label, seeds in by_label.items() if is_reference(seeds)}
    notes = failure_notes(by_label)
    partial = [label for label, seeds in by_label.items() if any(entry.lacks(tasks) for entry in seeds)]
    if partial:
        notes.append(f"{ABSENT}: not run on all tasks of this table, so without an average: {', '.join(partial)}.")
    if references:
        notes.append(f"{', '.join(sorted(references))}: a reference row, not ranked.")
    return Table(
        key=slug("results", entries[0].backbone, entries[0].suite),
        title=title_of(entries),
        caption=_caption(entries, by_label, headings),
        columns=tuple(columns),
        rows=ranked_rows(by_label, drafts, columns),
        notes=tuple(notes),
        family_heads=len(by_label) > LONG,
    )


def _draft(seeds: Sequence[RunEntry], key: str, tasks: Sequence[str]) -> DraftValue:
    marks = row_marks(seeds)
    if key == "percent":
        shares = tuple(entry.measured["percent"] for entry in seeds if "percent" in entry.measured)
        codes = () if shares else tuple(entry.code for entry in seeds if entry.code)
        return DraftValue(shares[:1], codes, digits=2)
    if key == "average":
        averages = [entry.average(tasks) for entry in seeds]
        codes = tuple(entry.code for entry, value in zip(seeds, averages, strict=True) if value is None and entry.code)
        partial = any(entry.lacks(tasks) for entry in seeds)  # has no average, rather than one that failed
        return DraftValue(tuple(finite_only(averages)), () if partial else codes, 2, marks)
    cells = [cell for entry in seeds for cell in entry.cells if cell.task == key]
    scores = tuple(cell.score for cell in cells if cell.score is not None)
    return DraftValue(scores, tuple(cell.code for cell in cells if cell.code), 2, marks)


def _caption(entries: Sequence[RunEntry], by_label: dict[str, list[RunEntry]], headings: Sequence[TaskHeading]) -> str:
    units = "; ".join(dict.fromkeys(heading.unit for heading in headings if heading.unit))
    facts = [units[:1].upper() + units[1:], _splits_phrase(headings), seeds_phrase(by_label)]
    return (
        f"{title_of(entries)}. {'; '.join(fact for fact in facts if fact)}. "
        "Best in bold, second best underlined, decided on unrounded means; equal means share the mark."
    )


def _splits_phrase(headings: Sequence[TaskHeading]) -> str:
    """Name the split of the columns: once if they agree, else per task; "" where no split is known."""
    splits = {heading.split for heading in headings}
    if len(splits) == 1:
        return f"{headings[0].split} split" if headings[0].split else ""
    return ", ".join(f"{heading.label} {heading.split or 'unknown'}" for heading in headings) + " split"
