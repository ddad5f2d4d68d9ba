"""The results tables: means over tasks by method, and methods by tasks in the form of the papers, with intervals."""

from collections.abc import Sequence
from dataclasses import replace

from bench.report.paired_statistics import LEVEL, SIGNIFICANCE
from bench.report.pairing import AVERAGE
from bench.report.run_entries import RunEntry
from bench.report.standing import Standing
from bench.report.stats import finite_only
from bench.report.table import (
    ABSENT,
    LONG,
    Column,
    DraftValue,
    Table,
    TableRow,
    Value,
    failure_notes,
    group_entries,
    is_reference,
    ranked_rows,
    row_marks,
    slug,
    title_of,
)
from bench.report.task_columns import TaskHeading, task_headings

BOLD = "cannot be told apart from the best"  # what bold says in a column of scores
BOLD_PHRASE = (
    f"the best of the column and all that cannot be told apart from it at {SIGNIFICANCE:.0%}, by paired differences "
    "corrected for all pairs of rows (Holm)"
)
PAPER_AVERAGE = "Paper's Avg."


def results_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table per backbone and suite; rows are in the order of the sweep, and an average follows the tasks.

    Every score has an interval where its spread is known, and all scores of a column that cannot be told apart from the
    best one have rank 1.
    """
    return [_results(group) for group in group_entries(entries, "backbone", "suite")]


def _results(entries: Sequence[RunEntry]) -> Table:
    standing = Standing.of(entries)
    by_label = standing.rows
    headings = task_headings(entries)
    tasks = [heading.task for heading in headings]
    columns = [Column("percent", "Trainable (%)")]
    columns += [Column(heading.task, heading.title, better=+1) for heading in headings]
    if len(headings) > 1:
        columns.append(Column(AVERAGE, PAPER_AVERAGE, better=+1))
    drafts = {label: [_draft(seeds, column.key, tasks) for column in columns] for label, seeds in by_label.items()}
    references = {label for label, seeds in by_label.items() if is_reference(seeds)}
    notes = [_average_note(headings)] * (len(headings) > 1) + failure_notes(by_label)
    partial = [label for label, seeds in by_label.items() if any(entry.lacks(tasks) for entry in seeds)]
    if partial:
        notes.append(f"{ABSENT}: not run on all tasks of this table, so without an average: {', '.join(partial)}.")
    if references:
        notes.append(f"{', '.join(sorted(references))}: a reference row, not ranked.")
    return Table(
        key=slug("results", entries[0].backbone, entries[0].suite),
        title=title_of(entries),
        caption=_caption(entries, standing, headings),
        columns=tuple(columns),
        rows=_with_intervals(ranked_rows(by_label, drafts, columns), columns, standing),
        notes=tuple(notes),
        family_heads=len(by_label) > LONG,
        best=BOLD,
    )


def _with_intervals(rows: Sequence[TableRow], columns: Sequence[Column], standing: Standing) -> tuple[TableRow, ...]:
    """Give the scores their intervals, and rank 1 to those that cannot be told apart from the best of their column."""
    level = {column.key: standing.level_with_best(column.key) for column in columns if column.better}

    def value(row: TableRow, column: Column, plain: Value) -> Value:
        estimate = standing.estimates[row.label].get(column.key)
        if not column.better or estimate is None or plain.mean is None:
            return plain
        made = replace(plain, spread="", rank=int(row.label in level[column.key]), examples=estimate.examples)
        if estimate.half_width is None:
            return made
        ends = (plain.mean - estimate.half_width, plain.mean + estimate.half_width)
        return replace(made, spread=f"{estimate.half_width:.2f}", interval=ends)

    return tuple(
        replace(row, values=tuple(value(row, *pair) for pair in zip(columns, row.values, strict=True))) for row in rows
    )


def _draft(seeds: Sequence[RunEntry], key: str, tasks: Sequence[str]) -> DraftValue:
    marks = row_marks(seeds)
    if key == "percent":
        shares = tuple(entry.measured["percent"] for entry in seeds if "percent" in entry.measured)
        codes = () if shares else tuple(entry.code for entry in seeds if entry.code)
        return DraftValue(shares[:1], codes, digits=2)
    if key == AVERAGE:
        averages = [entry.average(tasks) for entry in seeds]
        codes = tuple(entry.code for entry, value in zip(seeds, averages, strict=True) if value is None and entry.code)
        partial = any(entry.lacks(tasks) for entry in seeds)  # has no average, rather than one that failed
        return DraftValue(tuple(finite_only(averages)), () if partial else codes, 2, marks)
    cells = [cell for entry in seeds for cell in entry.cells if cell.task == key]
    scores = tuple(cell.score for cell in cells if cell.score is not None)
    return DraftValue(scores, tuple(cell.code for cell in cells if cell.code), 2, marks)


def _caption(entries: Sequence[RunEntry], standing: Standing, headings: Sequence[TaskHeading]) -> str:
    units = "; ".join(dict.fromkeys(heading.unit for heading in headings if heading.unit))
    facts = [units[:1].upper() + units[1:], _splits_phrase(headings), spread_phrase(standing)]
    bold = "" if "no interval" in facts[-1] else f" Bold: {BOLD_PHRASE}."
    return f"{title_of(entries)}. {'; '.join(fact for fact in facts if fact)}.{bold}"


def _average_note(headings: Sequence[TaskHeading]) -> str:
    """Say what the plain average is worth."""
    units = {heading.unit for heading in headings}
    mixed = " It adds different units, so the tasks with the widest scores decide it." if len(units) > 1 else ""
    return f"{PAPER_AVERAGE} is the plain mean of the columns, as published.{mixed}"


def _splits_phrase(headings: Sequence[TaskHeading]) -> str:
    """Name the split of the columns: once if they agree, else per task; "" where no split is known."""
    splits = {heading.split for heading in headings}
    if len(splits) == 1:
        return f"{headings[0].split} split" if headings[0].split else ""
    return ", ".join(f"{heading.label} {heading.split or 'unknown'}" for heading in headings) + " split"


def spread_phrase(standing: Standing) -> str:
    """Say for a caption how many seeds a value rests on, and what its interval covers."""
    parts = [part for of_row in standing.estimates.values() for part in of_row.values()]
    seeds, interval = standing.seeds, f"half of the {LEVEL:.0%} interval"
    examples = any(part.example_variance is not None for part in parts)
    if seeds > 1:
        over = "seeds and examples" if examples else "seeds alone, without the scores of single examples"
        return f"mean over {seeds} seeds with {interval} over {over} as subscript"
    if examples:
        return f"one seed, with {interval} over examples as subscript: how much another seed would change is not in it"
    return "one seed and no scores of single examples, so no interval, and nothing is said to be best"
