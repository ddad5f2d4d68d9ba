"""The tables that lead a report: mean rank and normalised mean over the tasks, with intervals."""

from collections.abc import Sequence

from bench.report.paired_statistics import LEVEL, SIGNIFICANCE
from bench.report.results import BOLD
from bench.report.run_entries import RunEntry
from bench.report.standing import LOWER_END, MEAN_RANK, NORMALISED, MeanOverTasks, Standing, standings
from bench.report.table import LONG, REFERENCE, Column, Table, TableRow, Value, is_reference, run_ids_of, slug, title_of

AMONG_BEST = "among_best"


def standing_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table per backbone and suite with several tasks and at least two ranked rows that have all scores."""
    return [_table(standing) for standing in standings(entries) if standing.mean_ranks]


def _table(standing: Standing) -> Table:
    columns = [Column("percent", "Trainable (%)"), Column(MEAN_RANK, "Mean rank", better=-1)]
    columns += [Column(NORMALISED, "Normalised mean", better=+1)] * bool(standing.normalised)
    columns += [Column(AMONG_BEST, "Tasks among the best")] * any(map(standing.level_with_best, standing.tasks))
    entries = [entry for row in standing.rows.values() for entry in row]
    return Table(
        key=slug("standings", entries[0].backbone, entries[0].suite),
        title=f"Standing: {title_of(entries)}",
        caption=_caption(standing, entries),
        columns=tuple(columns),
        rows=tuple(_row(standing, label, columns) for label in standing.rows),
        notes=tuple(_notes(standing)),
        family_heads=len(standing.rows) > LONG,
        best=BOLD,
    )


def _row(standing: Standing, label: str, columns: Sequence[Column]) -> TableRow:
    entries = standing.rows[label]
    shares = [entry.measured["percent"] for entry in entries if "percent" in entry.measured]
    counted = [task for task in standing.tasks if label in standing.level_with_best(task)]
    values = {
        "percent": Value(f"{shares[0]:.2f}", mean=shares[0], n=len(shares)) if shares else _absent(standing, label),
        MEAN_RANK: _value(standing, label, MEAN_RANK, standing.mean_ranks.get(label)),
        NORMALISED: _value(standing, label, NORMALISED, standing.normalised.get(label)),
        AMONG_BEST: Value(f"{len(counted)} of {len(standing.tasks)}", mean=float(len(counted)))
        if label in standing.mean_ranks
        else _absent(standing, label),
    }
    return TableRow(
        label,
        entries[0].family,
        tuple(values[column.key] for column in columns),
        run_ids_of(entries),
        reference=is_reference(entries),
    )


def _value(standing: Standing, label: str, key: str, mean: MeanOverTasks | None) -> Value:
    if mean is None:
        return _absent(standing, label)
    seeds = sum(entry.average(standing.tasks) is not None for entry in standing.rows[label])
    rank = int(label in standing.level_with_best(key))
    text = f"{mean.value:.2f}".replace("-", "−")
    return Value(text, rank=rank, mean=mean.value, n=seeds, interval=mean.interval)


def _absent(standing: Standing, label: str) -> Value:
    """What stands in place of a mean: why a score is missing, or that the row is not ranked."""
    code = next((entry.code for entry in standing.rows[label] if entry.code), "")
    return Value(code, failed=True) if code and label not in standing.mean_ranks else Value("n/a")


def _caption(standing: Standing, entries: Sequence[RunEntry]) -> str:
    spread = any(each.interval for each in standing.mean_ranks.values())
    seeds = f"{standing.seeds} seeds" if standing.seeds > 1 else "one seed, whose own chance is not in the intervals"
    interval = f"in brackets the {LEVEL:.0%} interval by bootstrap ({seeds})" if spread else f"{seeds}, so no intervals"
    bold = f" Bold: {BOLD}, at {SIGNIFICANCE:.0%}." if spread else ""
    return f"{title_of(entries)}. Means over {len(standing.tasks)} tasks; {interval}.{bold}"


def _notes(standing: Standing) -> list[str]:
    notes = [
        f"Mean rank: 1 is the best of {len(standing.complete)} ranked rows on every task. Which can be told apart is "
        "tested on the mean of standardised scores, paired and corrected for all pairs (Holm)."
    ]
    if standing.normalised and standing.reference_rows:
        zero, one = standing.reference_rows
        notes.append(f"Normalised mean: on every task 0 is {zero} and 1 is {one}; both are rows of this sweep.")
    elif standing.reference_rows:
        zero, one = standing.reference_rows
        notes.append(f"No normalised mean: {one} is not above {zero} on every task.")
    else:
        needed = f"a blind row or {LOWER_END} for 0 and {REFERENCE} for 1"
        notes.append(f"No normalised mean: it takes {needed}, with scores on all tasks.")
    return notes
