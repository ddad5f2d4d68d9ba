"""The efficiency table: parameters, time and memory, ranked among runs of the same hardware, precision and batch."""

from collections.abc import Sequence

from bench.report.run_entries import RunEntry
from bench.report.table import (
    LIMITED_NOTE,
    LONG,
    STALE,
    Column,
    DraftValue,
    Table,
    entries_by_label,
    group_entries,
    is_reference,
    ranked_rows,
    row_marks,
    seeds_phrase,
    slug,
    title_of,
)

MIB = 2**20


def efficiency_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table per backbone, suite and conditions; figures under different conditions never share a column."""
    return [table for group in group_entries(entries, "backbone", "suite") for table in _per_conditions(group)]


def conditions_of(entries: Sequence[RunEntry]) -> list[str]:
    """Return, sorted, the conditions (hardware, precision, batch size) under which at least one run was timed."""
    return sorted({entry.conditions for entry in entries if entry.timed})


def entries_under(entries: Sequence[RunEntry], conditions: str) -> list[RunEntry]:
    """Return the runs under these conditions, and all runs without a time, whose failure belongs in every table."""
    return [entry for entry in entries if not entry.timed or entry.conditions == conditions]


def memory_key(entries: Sequence[RunEntry]) -> tuple[str, str]:
    """Return key and title of the runs' memory figure: the device's peak where there is one, else the host's."""
    if any("peak_memory_bytes" in entry.measured for entry in entries):
        return "peak_memory_bytes", "Peak device memory"
    return "host_memory_bytes", "Peak host memory"


def _per_conditions(entries: Sequence[RunEntry]) -> list[Table]:
    keys = conditions_of(entries)
    return [_efficiency(entries_under(entries, key), key, keys) for key in keys]


def _efficiency(entries: Sequence[RunEntry], conditions: str, keys: Sequence[str]) -> Table:
    by_label = entries_by_label(entries)
    memory, title = memory_key(entries)
    small = max(entry.measured.get("trainable", 0.0) for entry in entries) < 1e7
    figures = [
        (Column("trainable", "Trainable (M)"), 1e-6, 3 if small else 2),
        (Column("percent", "Trainable (%)"), 1.0, 2),
        (Column("step_seconds", "Step (ms)", better=-1), 1e3, 1),
        (Column("samples_per_second", "Samples/s", better=+1), 1.0, 1),
        (Column("train_seconds", "Training (s)", better=-1), 1.0, 1),
        # That of the process has little to do with a method, and is ranked for nobody.
        (Column(memory, f"{title} (MiB)", better=-1 if memory == "peak_memory_bytes" else 0), 1 / MIB, 0),
    ]
    columns = [column for column, _, _ in figures]
    drafts = {
        label: [_draft(seeds, column.key, scale, digits) for column, scale, digits in figures]
        for label, seeds in by_label.items()
    }
    references = {label for label, seeds in by_label.items() if is_reference(seeds)}
    return Table(
        key=slug("efficiency", entries[0].backbone, entries[0].suite, *([conditions] if len(keys) > 1 else [])),
        title=f"{title_of(entries)}, on {conditions}",
        caption=(
            f"Cost on {title_of(entries)}; {conditions}; step time is the median over training steps; "
            f"{seeds_phrase(by_label)}. Best in bold, second best underlined."
        ),
        columns=tuple(columns),
        rows=ranked_rows(by_label, drafts, columns),
        notes=_notes(entries, conditions, keys, memory, references),
        family_heads=len(by_label) > LONG,
    )


def _draft(seeds: Sequence[RunEntry], key: str, scale: float, digits: int) -> DraftValue:
    codes = tuple(entry.code for entry in seeds if not entry.timed)
    if key in ("trainable", "percent"):  # equal for all seeds, and recorded even by a run that failed later
        numbers = tuple(entry.measured[key] * scale for entry in seeds if key in entry.measured)[:1]
        return DraftValue(numbers, () if numbers else codes, digits)
    numbers = tuple(entry.measured[key] * scale for entry in seeds if entry.timed and key in entry.measured)
    return DraftValue(numbers, codes, digits, row_marks(seeds))


def _notes(
    entries: Sequence[RunEntry], conditions: str, keys: Sequence[str], memory: str, references: set[str]
) -> tuple[str, ...]:
    notes = []
    if len(keys) > 1:
        notes.append(
            f"Runs differ in hardware, precision or batch size ({'; '.join(keys)}): time and memory compare only "
            f"within {conditions}."
        )
    if memory == "host_memory_bytes":
        notes.append(
            "The device reports no peak memory of its own; the figure is the resident memory of the whole process."
        )
    if any(entry.code for entry in entries):
        notes.append("A code in place of a figure is why the run has none; † marks fewer seeds than planned.")
    if any(entry.limited for entry in entries):
        notes.append(LIMITED_NOTE)
    if any(entry.stale for entry in entries):
        notes.append(f"{STALE} stale run (made of other data or weights than there are now), not ranked.")
    if references:
        notes.append(f"{', '.join(sorted(references))}: a reference row, not ranked.")
    return tuple(notes)
