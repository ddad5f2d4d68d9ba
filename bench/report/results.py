"""The results table in the form of the papers: methods by tasks, with trainable share and average."""

from collections.abc import Sequence

from bench.report.run_entries import RunEntry, ScoreCell
from bench.report.table import (
    LONG,
    Column,
    Draft,
    Table,
    build,
    failure_notes,
    groups,
    is_reference,
    methods_of,
    seeds_phrase,
    slug,
    title_of,
)

METRICS = {"accuracy": ("Acc.", "accuracy in %"), "CIDEr": ("CIDEr", "CIDEr × 100")}


def results_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """One table per backbone and suite; rows in sweep order, task columns in the official order, then their average."""
    return [_results(group) for group in groups(entries, "backbone", "suite")]


def task_order(entries: Sequence[RunEntry]) -> list[str]:
    """The planned tasks of these entries, in the official order of their suite."""
    from bench import tasks

    planned = {cell.task for entry in entries for cell in entry.cells}
    return [task.name for task in tasks.suite(entries[0].suite) if task.name in planned]


def task_title(task: str) -> str:
    """Column title of a task: its label and metric, as in "VQAv2 Acc."."""
    from bench import tasks

    found = tasks.get(task)
    return f"{found.label} {METRICS.get(found.metric, (found.metric, ''))[0]}"


def _results(entries: Sequence[RunEntry]) -> Table:
    by_label = methods_of(entries)
    names = task_order(entries)
    columns = [Column("percent", "Trainable (%)")]
    columns += [Column(name, task_title(name), better=+1) for name in names]
    if len(names) > 1:
        columns.append(Column("average", "Avg.", better=+1))
    drafts = {label: [_draft(seeds, column.key) for column in columns] for label, seeds in by_label.items()}
    references = {label for label, seeds in by_label.items() if is_reference(seeds)}
    notes = failure_notes(by_label)
    if references:
        notes.append(f"{', '.join(sorted(references))}: a reference row, not ranked.")
    return Table(
        key=slug("results", entries[0].backbone, entries[0].suite),
        title=title_of(entries),
        caption=_caption(entries, by_label, names),
        columns=tuple(columns),
        rows=build(by_label, drafts, columns),
        notes=tuple(notes),
        run_ids=tuple(entry.run_id for entry in entries),
        family_heads=len(by_label) > LONG,
    )


def _draft(seeds: Sequence[RunEntry], key: str) -> Draft:
    limited = any(entry.limited for entry in seeds)
    if key == "percent":
        shares = tuple(entry.measured["percent"] for entry in seeds if "percent" in entry.measured)
        codes = () if shares else tuple(entry.code for entry in seeds if entry.code)
        return Draft(shares[:1], codes, digits=2)
    if key == "average":
        averages = tuple(entry.average for entry in seeds if entry.average is not None)
        return Draft(averages, tuple(entry.code for entry in seeds if entry.average is None), 2, limited)
    cells = [cell for entry in seeds for cell in entry.cells if cell.task == key]
    scores = tuple(cell.score for cell in cells if cell.score is not None)
    return Draft(scores, tuple(cell.code for cell in cells if cell.code), 2, limited)


def _caption(entries: Sequence[RunEntry], by_label: dict[str, list[RunEntry]], names: Sequence[str]) -> str:
    from bench import tasks

    cells = [cell for entry in entries for cell in entry.cells]
    units = dict.fromkeys(METRICS.get(metric, ("", metric))[1] for metric in (tasks.get(name).metric for name in names))
    return (
        f"{title_of(entries)}. {_capital('; '.join(units))}; {_splits(cells, names)}; {seeds_phrase(by_label)}. "
        "Best in bold, second best underlined, decided on unrounded means; equal means share the mark."
    )


def _splits(cells: Sequence[ScoreCell], names: Sequence[str]) -> str:
    """The split of every column: one word if they agree, else per task."""
    from bench import tasks

    split = {name: tasks.get(name).report_split for name in names}
    split |= {cell.task: cell.split for cell in cells if cell.split}
    if len(set(split.values())) == 1:
        return f"{split[names[0]]} split"
    return ", ".join(f"{tasks.get(name).label} {split[name]}" for name in names) + " split"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
