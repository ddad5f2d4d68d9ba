"""Tables of differences: the base's scores, then how each cell differs from it, paired over seeds and examples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.paired_statistics import (
    LEVEL,
    SIGNIFICANCE,
    Difference,
    holm,
    with_seed_variance,
)
from bench.report.pairing import AVERAGE, PairedRows, score_matrix, score_of
from bench.report.results import PAPER_AVERAGE
from bench.report.run_entries import RunEntry
from bench.report.standing import Standing, standings
from bench.report.stats import finite_only, mean
from bench.report.table import (
    FEWER,
    Column,
    Table,
    TableRow,
    Value,
    entries_by_label,
    failure_notes,
    group_entries,
    row_marks,
    run_ids_of,
    slug,
    title_of,
)
from bench.report.task_columns import task_headings, task_order

UP, DOWN = "↑", "↓"  # marks of a significant difference
NO_PAIR = "no pair"  # in place of a difference where both sides have scores, but none that can be compared


@dataclass(frozen=True)
class ComparedCell:
    """One cell of an ablation beside its base.

    ``differences`` holds by task the difference to the base, and under AVERAGE that of the average where there are
    several tasks; ``corrected`` their p-values, corrected for the number of cells.
    """

    label: str
    entries: tuple[RunEntry, ...]
    differences: Mapping[str, Difference]
    corrected: Mapping[str, float | None]

    def mark(self, key: str) -> str:
        """Return UP or DOWN where the difference is significant after the correction for the number of cells."""
        p_value = self.corrected.get(key)
        if p_value is None or p_value >= SIGNIFICANCE:
            return ""
        return UP if self.differences[key].mean > 0 else DOWN


@dataclass(frozen=True)
class Ablation:
    """A base on one backbone and suite with the cells that differ from it, in the order of the plan.

    ``leader`` is the label of the base where no plan but its scores made it the base; "" in an ablation.
    """

    base: tuple[RunEntry, ...]
    cells: tuple[ComparedCell, ...]
    leader: str = ""

    @property
    def name(self) -> str:
        """What the base is called."""
        return self.leader or self.base[0].base

    @property
    def entries(self) -> list[RunEntry]:
        """All planned runs: those of the base, then those of the cells."""
        return [*self.base, *(entry for cell in self.cells for entry in cell.entries)]

    @property
    def keys(self) -> list[str]:
        """The keys of the columns: the tasks in order, and AVERAGE where there are several."""
        tasks = task_order(self.base)
        return tasks + [AVERAGE] * (len(tasks) > 1)

    @property
    def slug(self) -> str:
        """The part of file names that tells this ablation from others."""
        return slug(self.base[0].backbone, self.base[0].suite, *[self.base[0].base] * (not self.leader))

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The axes on which the entries have more than one value, with their values in the order of the plan."""
        points = [entry.point for entry in self.entries if entry.point]
        by_axis = {name: _distinct(point.get(name) for point in points) for name in (points[0] if points else {})}
        return {name: values for name, values in by_axis.items() if len(values) > 1}

    @property
    def plot(self) -> str:
        """How the differences are drawn: as the plan asks if its axes allow it, else as the axes suggest."""
        requested, axes = self.base[0].plot, self.axes
        ordered = [name for name, values in axes.items() if all(_is_number(value) for value in values)]
        if all(cell.entries[0].point for cell in self.cells):  # cells made by a delta lie on no axis
            if ordered and (requested == "curve" or (requested is None and len(axes) == 1)):
                return "curve"
            if len(axes) == 2 and requested in ("heatmap", None):
                return "heatmap"
        return "bars"

    @property
    def has_differences(self) -> bool:
        """Whether any cell has a seed with scores in common with the base, so that there is something to draw."""
        return any(cell.differences for cell in self.cells)

    def title(self, key: str) -> str:
        """Return the title of a column."""
        return {
            AVERAGE: PAPER_AVERAGE if self.leader else "Avg.",
            **{heading.task: heading.title for heading in task_headings(self.base)},
        }[key]


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values without None and repetitions: numbers sorted, others in order of appearance."""
    distinct: list[Any] = []
    for value in values:
        if value is not None and value not in distinct:
            distinct.append(value)
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ablations(entries: Sequence[RunEntry]) -> list[Ablation]:
    """Return every base that was planned together with other cells, compared with them.

    Cells whose base is not among the entries are left out, and so are runs that tune.
    """
    planned = [entry for entry in entries if entry.base and not entry.tuning]
    compared = []
    for group in group_entries(planned, "backbone", "suite", "base"):
        rows = entries_by_label(group)
        bases = [row for row in rows.values() if row[0].label == row[0].base]
        others = {label: row for label, row in rows.items() if row[0].label != row[0].base}
        if len(bases) == 1 and others:
            compared.append(Ablation(tuple(bases[0]), tuple(_compared(bases[0], others))))
    return compared


def leader_comparisons(entries: Sequence[RunEntry]) -> list[Ablation]:
    """Return the leading row of every plain sweep on a backbone and suite, as a base that all other rows differ from.

    Only ranked rows are told apart from it; the p-values are corrected for all their pairs, since the scores chose it.
    """
    plain = [entry for entry in entries if not entry.base and not entry.tuning]
    return [_to_leader(each, each.leader) for each in standings(plain) if each.leader is not None]


def _to_leader(standing: Standing, leader: str) -> Ablation:
    base = standing.rows[leader]
    others = {label: row for label, row in standing.rows.items() if label != leader}
    cells = [
        replace(cell, corrected={key: standing.comparisons.p_value(key, cell.label, leader) for key in standing.keys})
        for cell in _compared(base, others)
    ]
    return Ablation(tuple(base), tuple(cells), leader)


def _compared(base: Sequence[RunEntry], rows: Mapping[str, Sequence[RunEntry]]) -> list[ComparedCell]:
    """Compare the rows of an ablation with its base."""
    tasks = task_order(base)
    paired = [PairedRows.of(row, base, tasks) for row in rows.values()]
    cells = [
        ComparedCell(label, tuple(row), pairs.differences(tasks), {})
        for (label, row), pairs in zip(rows.items(), paired, strict=True)
    ]
    return _corrected(base, _with_seed_variance(base, cells, paired))


def _with_seed_variance(
    base: Sequence[RunEntry], cells: Sequence[ComparedCell], paired: Sequence[PairedRows]
) -> list[ComparedCell]:
    """Give every difference the variance over seeds, estimated from all cells that have all seeds of the base.

    A cell that shares only a part of its examples with the base varies more than the others. It takes no part, and its
    own variance is estimated from its pairs alone.
    """
    tasks = task_order(base)
    keys = dict.fromkeys(key for cell in cells for key in cell.differences)
    pooled = {}
    for key in keys:
        complete = [c.entries for c in cells if key in c.differences and not c.differences[key].partial]
        pooled[key] = score_matrix(base, complete, key, tasks)
    completed = []
    for cell, pairs in zip(cells, paired, strict=True):
        differences = {
            key: with_seed_variance(
                part, pairs.scores(tasks if key == AVERAGE else [key]) if part.partial else pooled[key]
            )
            for key, part in cell.differences.items()
        }
        completed.append(replace(cell, differences=differences))
    return completed


def _corrected(base: Sequence[RunEntry], cells: Sequence[ComparedCell]) -> list[ComparedCell]:
    """Correct the p-values of each column for the number of cells; stale runs are told from nothing."""
    keys = dict.fromkeys(key for cell in cells for key in cell.differences)

    def p_value(cell: ComparedCell, key: str) -> float | None:
        stale = any(entry.stale for entry in (*base, *cell.entries))
        return cell.differences[key].p_value if key in cell.differences and not stale else None

    p_values = {key: holm([p_value(cell, key) for cell in cells]) for key in keys}
    return [
        replace(cell, corrected={key: p_values[key][at] for key in keys if key in cell.differences})
        for at, cell in enumerate(cells)
    ]


def difference_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table for each base of an ablation on each backbone and suite."""
    return [_table(ablation) for ablation in ablations(entries)]


def leader_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return for each plain sweep on a backbone and suite how its rows differ from the leading one."""
    return [_table(comparison) for comparison in leader_comparisons(entries)]


def _table(ablation: Ablation) -> Table:
    columns = [Column("percent", "Trainable (%)")]
    columns += [Column(key, ablation.title(key), better=+1) for key in ablation.keys]
    base = ablation.base[0]
    label = ablation.leader or next(iter(entries_by_label(ablation.base)))
    rows = [TableRow(label, base.family, _base_values(ablation), run_ids_of(ablation.base), reference=True)]
    rows += [
        TableRow(cell.label, cell.entries[0].family, _values(cell, ablation.keys), run_ids_of(cell.entries))
        for cell in ablation.cells
    ]
    title = f"{title_of(ablation.base)}: differences to {ablation.name}"
    return Table(
        key=slug("differences", ablation.slug),
        title=title,
        caption=f"{title}, whose own scores are in the first row.",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(_interval_note(ablation), *_notes(ablation)),
    )


def _base_values(ablation: Ablation) -> tuple[Value, ...]:
    values = [_percent(ablation.base)]
    tasks = task_order(ablation.base)
    for key in ablation.keys:
        scores = finite_only(score_of(entry, key, tasks) for entry in ablation.base)
        values.append(_value(mean(scores) if scores else None, "{:.2f}", ablation.base, len(scores)))
    return tuple(values)


def _values(cell: ComparedCell, keys: Sequence[str]) -> tuple[Value, ...]:
    values = [_percent(cell.entries)]
    for key in keys:
        part = cell.differences.get(key)
        value = _value(part.mean if part else None, "{:+.2f}", cell.entries, part.seeds if part else 0)
        if part:
            value = replace(value, examples=part.examples)
        if part and part.half_width is not None:
            ends = (part.mean - part.half_width, part.mean + part.half_width)
            value = replace(value, spread=f"{part.half_width:.2f}", interval=ends, marks=cell.mark(key) + value.marks)
        values.append(value)
    return tuple(values)


def _percent(entries: Sequence[RunEntry]) -> Value:
    shares = [entry.measured["percent"] for entry in entries if "percent" in entry.measured]
    return _value(shares[0] if shares else None, "{:.2f}", entries, len(entries))


def _value(number: float | None, form: str, entries: Sequence[RunEntry], n: int) -> Value:
    if number is None:
        code = next((entry.code for entry in entries if entry.code), NO_PAIR)
        return Value(code, failed=True)
    marks = FEWER * (n < len(entries)) + row_marks(entries)
    return Value(form.format(number).replace("-", "−"), mean=number, n=n, marks=marks)


def _interval_note(ablation: Ablation) -> str:
    """Say what the intervals cover."""
    parts = [part for cell in ablation.cells for part in cell.differences.values()]
    seeds = max((part.seeds for part in parts), default=0)
    if not parts or all(part.half_width is None for part in parts):
        return "One seed and no scores of single examples, so nothing is known of the spread."
    correction = "corrected over the column"
    if ablation.leader:
        correction = "corrected for all pairs of ranked rows of the column, since its scores made this row the base"
    over = [f"{seeds} seeds"] * (seeds > 1) + ["the examples"] * any(part.examples for part in parts)
    warning = "" if seeds > 1 else " (one seed: how much another seed would change is not in it)"
    return (
        f"± is half of the {LEVEL:.0%} interval of the paired difference over {' and '.join(over)}{warning}; "
        "the variance over seeds is taken as the same for all rows. "
        f"{UP} and {DOWN}: can be told from no difference at {SIGNIFICANCE:.0%}, {correction} (Holm)."
    )


def _notes(ablation: Ablation) -> list[str]:
    notes = failure_notes(entries_by_label(ablation.entries))
    seeds_only = [
        ablation.title(key)
        for key in ablation.keys
        if any(key in cell.differences and not cell.differences[key].examples for cell in ablation.cells)
    ]
    if seeds_only:
        notes.append(f"{', '.join(seeds_only)}: paired over seeds only.")
    for cell in ablation.cells:
        counts = [
            f"{ablation.title(key)} {part.examples}"
            for key, part in cell.differences.items()
            if part.partial and key != AVERAGE
        ]
        if counts:
            notes.append(
                f"{cell.label}: not scored on the same examples as the base, so paired over the examples in common "
                f"only: {', '.join(counts)}."
            )
    if any(not cell.differences and not any(entry.code for entry in cell.entries) for cell in ablation.cells):
        notes.append(f"{NO_PAIR}: no seed has scores on both sides on the same examples.")
    return notes
