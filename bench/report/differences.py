"""Tables of differences: the base's scores, then how each cell differs from it, paired over seeds and examples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.report.paired_statistics import APART, LEVEL, Difference, average, difference, holm, over_seeds
from bench.report.results import task_order, task_title
from bench.report.run_entries import RunEntry
from bench.report.stats import mean
from bench.report.table import (
    FEWER,
    LIMITED,
    Column,
    Table,
    TableRow,
    Value,
    failure_notes,
    groups,
    methods_of,
    slug,
    title_of,
)

UP, DOWN = "↑", "↓"  # marks of a difference that can be told from none
AVERAGE = "average"


@dataclass(frozen=True)
class Compared:
    """One cell beside its base: the differences by task, and where there are several tasks that of their average."""

    label: str
    entries: tuple[RunEntry, ...]
    found: Mapping[str, Difference]
    corrected: Mapping[str, float | None]

    def mark(self, key: str) -> str:
        """UP or DOWN where the difference can be told from none, after correction for the number of cells."""
        p = self.corrected.get(key)
        return "" if p is None or p >= APART else UP if self.found[key].mean > 0 else DOWN


@dataclass(frozen=True)
class Ablation:
    """A base on one backbone and suite with the cells that differ from it, in the order of the plan."""

    base: tuple[RunEntry, ...]
    cells: tuple[Compared, ...]

    @property
    def entries(self) -> list[RunEntry]:
        """All planned runs."""
        return [*self.base, *(entry for cell in self.cells for entry in cell.entries)]

    @property
    def keys(self) -> list[str]:
        """The tasks in the official order, and their average where there are several."""
        tasks = task_order(self.base)
        return tasks + [AVERAGE] * (len(tasks) > 1)

    @property
    def slug(self) -> str:
        """The end of file names."""
        return slug(self.base[0].backbone, self.base[0].suite, self.base[0].base)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The axes on which the entries have more than one value, with their values in the order of the plan."""
        points = [entry.point for entry in self.entries if entry.point]
        values = {name: _distinct(point.get(name) for point in points) for name in (points[0] if points else {})}
        return {name: found for name, found in values.items() if len(found) > 1}

    @property
    def plot(self) -> str:
        """How the differences are drawn: as the plan asks if its axes allow it, else as the axes suggest."""
        wanted, axes = self.base[0].plot, self.axes
        ordered = [name for name, values in axes.items() if all(_is_number(value) for value in values)]
        if all(cell.entries[0].point for cell in self.cells):  # a delta lies on no axis
            if ordered and (wanted == "curve" or (wanted is None and len(axes) == 1)):
                return "curve"
            if len(axes) == 2 and wanted in ("heatmap", None):
                return "heatmap"
        return "bars"

    def title(self, key: str) -> str:
        """The title of a column."""
        return "Avg." if key == AVERAGE else task_title(key)


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return sorted(found) if all(map(_is_number, found)) else found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ablations(entries: Sequence[RunEntry]) -> list[Ablation]:
    """Return every base that was planned with other cells; a base that is not among the entries has none."""
    found = []
    for group in groups([entry for entry in entries if entry.base and not entry.tuning], "backbone", "suite", "base"):
        rows = methods_of(group)
        base = next((row for row in rows.values() if row[0].label == row[0].base), None)
        others = {label: row for label, row in rows.items() if row is not base}
        if base and others:
            cells = [Compared(label, tuple(row), _differences(base, row), {}) for label, row in others.items()]
            found.append(Ablation(tuple(base), tuple(_corrected(_pooled(base, cells)))))
    return found


def _pooled(base: Sequence[RunEntry], cells: Sequence[Compared]) -> list[Compared]:
    """Give every difference the part of the seeds in its variance, from all cells that have all seeds of the base."""
    pooled = []
    keys = dict.fromkeys(key for cell in cells for key in cell.found)
    layouts = {key: layout(base, [cell.entries for cell in cells], key) for key in keys}
    for cell in cells:
        found = {key: over_seeds(part, layouts[key]) for key, part in cell.found.items()}
        pooled.append(replace(cell, found=found))
    return pooled


def layout(base: Sequence[RunEntry], cells: Sequence[Sequence[RunEntry]], key: str) -> np.ndarray:
    """Return the scores of a column as cells x seeds of the base, without the cells that lack a seed."""
    seeds = [entry.seed for entry in base if _score(entry, key) is not None]
    rows = []
    for entries in (base, *cells):
        scores = {entry.seed: _score(entry, key) for entry in entries}
        if seeds and all(scores.get(seed) is not None for seed in seeds):
            rows.append([scores[seed] for seed in seeds])
    return np.array(rows, dtype=float).reshape(len(rows), len(seeds))


def _score(entry: RunEntry, key: str) -> float | None:
    return entry.average if key == AVERAGE else entry.score(key)


def _differences(base: Sequence[RunEntry], seeds: Sequence[RunEntry]) -> dict[str, Difference]:
    """Differences by task over the seeds that both sides have; the average over those that have all tasks."""
    partners = {entry.seed: entry for entry in base}
    pairs = [(entry, partners[entry.seed]) for entry in seeds if entry.seed in partners]
    tasks = [task for task in task_order(base) if task in task_order(seeds)]
    found = {}
    for task in tasks:
        scored = [(e, b) for e, b in pairs if e.score(task) is not None and b.score(task) is not None]
        if scored:
            both = [(e.examples.get(task), b.examples.get(task)) for e, b in scored]
            each = [mine - theirs for mine, theirs in both if mine is not None and theirs is not None]
            found[task] = difference([_gap(e, b, task) for e, b in scored], each)
    whole = [(e, b) for e, b in pairs if e.average is not None and b.average is not None]
    if len(tasks) > 1 and whole and len(tasks) == len(task_order(base)):
        found[AVERAGE] = average(list(found.values()), [mean([_gap(e, b, task) for task in tasks]) for e, b in whole])
    return found


def _gap(entry: RunEntry, base: RunEntry, task: str) -> float:
    mine, theirs = entry.score(task), base.score(task)
    assert mine is not None and theirs is not None
    return mine - theirs


def _corrected(cells: Sequence[Compared]) -> list[Compared]:
    """Correct the p-values of each column for the number of cells."""
    keys = dict.fromkeys(key for cell in cells for key in cell.found)
    columns = {key: holm([cell.found[key].p if key in cell.found else None for cell in cells]) for key in keys}
    return [
        replace(cell, corrected={key: columns[key][at] for key in keys if key in cell.found})
        for at, cell in enumerate(cells)
    ]


def difference_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table for each base on each backbone and suite."""
    return [_table(ablation) for ablation in ablations(entries)]


def _table(ablation: Ablation) -> Table:
    columns = [Column("percent", "Trainable (%)")]
    columns += [Column(key, ablation.title(key), better=+1) for key in ablation.keys]
    base = ablation.base[0]
    [label] = methods_of(ablation.base)
    rows = [TableRow(label, base.family, _base_values(ablation), reference=True)]
    rows += [TableRow(cell.label, cell.entries[0].family, _values(cell, ablation.keys)) for cell in ablation.cells]
    title = f"{title_of(ablation.base)}: differences to {base.base}"
    return Table(
        key=slug("differences", ablation.slug),
        title=title,
        caption=f"{title}, whose own scores are in the first row.",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(_how(ablation), *_notes(ablation)),
        run_ids=tuple(entry.run_id for entry in ablation.entries),
    )


def _base_values(ablation: Ablation) -> tuple[Value, ...]:
    values = [_percent(ablation.base)]
    for key in ablation.keys:
        scores = [score for entry in ablation.base if (score := _score(entry, key)) is not None]
        values.append(_value(mean(scores) if scores else None, "{:.2f}", ablation.base, len(scores)))
    return tuple(values)


def _values(cell: Compared, keys: Sequence[str]) -> tuple[Value, ...]:
    values = [_percent(cell.entries)]
    for key in keys:
        found = cell.found.get(key)
        value = _value(found.mean if found else None, "{:+.2f}", cell.entries, found.seeds if found else 0)
        if found and found.half is not None:
            ends = (found.mean - found.half, found.mean + found.half)
            value = replace(value, spread=f"{found.half:.2f}", interval=ends, marks=cell.mark(key) + value.marks)
        values.append(value)
    return tuple(values)


def _percent(entries: Sequence[RunEntry]) -> Value:
    shares = [entry.measured["percent"] for entry in entries if "percent" in entry.measured]
    return _value(shares[0] if shares else None, "{:.2f}", entries, len(entries))


def _value(number: float | None, form: str, entries: Sequence[RunEntry], n: int) -> Value:
    if number is None:
        code = next((entry.code for entry in entries if entry.code), "no pair")
        return Value(code, failed=True)
    marks = FEWER * (n < len(entries)) + LIMITED * any(entry.limited for entry in entries)
    return Value(form.format(number).replace("-", "−"), mean=number, n=n, marks=marks)


def _how(ablation: Ablation) -> str:
    """Say what the intervals cover."""
    found = [part for cell in ablation.cells for part in cell.found.values()]
    seeds = max((part.seeds for part in found), default=0)
    if not found or all(part.half is None for part in found):
        return "One seed and no scores of single examples, so nothing is known of the spread."
    over = [f"{seeds} seeds"] * (seeds > 1) + ["the examples"] * any(part.examples for part in found)
    warning = "" if seeds > 1 else " (one seed: how much another seed would change is not in it)"
    return (
        f"± is half of the {LEVEL:.0%} interval of the paired difference over {' and '.join(over)}{warning}; "
        "the variance over seeds is taken as the same for all rows. "
        f"{UP} and {DOWN}: can be told from no difference at {APART:.0%}, corrected over the column (Holm)."
    )


def _notes(ablation: Ablation) -> list[str]:
    notes = failure_notes(methods_of(ablation.entries))
    seeds_only = [
        ablation.title(key)
        for key in ablation.keys
        if any(key in cell.found and not cell.found[key].examples for cell in ablation.cells)
    ]
    if seeds_only:
        notes.append(f"{', '.join(seeds_only)}: paired over seeds only.")
    return notes
