"""What a table is: frozen cells with their marks, still free of any output format."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.report.families import sort_key
from bench.report.run_entries import RunEntry
from bench.report.stats import mean, places, sample_std

REFERENCE = "full"  # fine-tuning everything: a reference row, never best or second
FEWER, LIMITED = "†", "‡"
LONG = 20  # rows of a table; more of them stand by family
ABSENT = "n/a"  # not planned, or a figure that the device does not have; never a failure


@dataclass(frozen=True)
class Column:
    """One column: its key, its title, and whether more (+1) or less (-1) is better (0: not ranked)."""

    key: str
    title: str
    better: int = 0


@dataclass(frozen=True)
class Value:
    """One number of a table, rounded for print, with its spread over seeds, or the code that stands in its place.

    A difference has the half of its interval in the place of the spread, and the interval's ends.
    """

    text: str
    spread: str = ""
    place: int = 0
    marks: str = ""
    failed: bool = False
    mean: float | None = None
    std: float | None = None
    n: int = 0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class TableRow:
    """One method with its family; ``reference`` rows are set apart and take no part in the ranking."""

    label: str
    family: str
    values: tuple[Value, ...]
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """A table with all that a reader needs to judge it: caption, notes, and the runs it was made from.

    Where ``family_heads`` is set, rows of a family stand together under the family's name.
    """

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    run_ids: tuple[str, ...]
    family_heads: bool = False


@dataclass(frozen=True)
class Draft:
    """A value before its column is ranked: the numbers of the seeds, the codes of the seeds without one."""

    numbers: tuple[float, ...]
    codes: tuple[str, ...]
    digits: int
    limited: bool = False


def methods_of(entries: Iterable[RunEntry]) -> dict[str, list[RunEntry]]:
    """Entries by row label, in the order of the plan, and of many by family; the seeds of a method share a row.

    The label of a row with a limited run is marked.
    """
    by_label: dict[str, list[RunEntry]] = {}
    for entry in entries:
        by_label.setdefault(entry.label, []).append(entry)
    by_label = {f"{label} {LIMITED}" if any(e.limited for e in row) else label: row for label, row in by_label.items()}
    if len(by_label) > LONG:
        return dict(sorted(by_label.items(), key=lambda row: sort_key(row[1][0].family)))
    return by_label


def groups(entries: Sequence[RunEntry], *keys: str) -> list[list[RunEntry]]:
    """Split entries by the named attributes, keeping the order in which each group first appears."""

    def key(entry: RunEntry) -> tuple[str, ...]:
        return tuple(getattr(entry, name) or "" for name in keys)

    first = {found: place for place, found in reversed(list(enumerate(map(key, entries))))}
    return [list(group) for _, group in groupby(sorted(entries, key=lambda entry: first[key(entry)]), key=key)]


def is_reference(entries: Sequence[RunEntry]) -> bool:
    """Whether these seeds of one method form the reference row."""
    return all(entry.label == REFERENCE for entry in entries)


def build(
    by_label: dict[str, list[RunEntry]], drafts: dict[str, list[Draft]], columns: Sequence[Column]
) -> tuple[TableRow, ...]:
    """Rank each column over the unrounded means of the rows that may be ranked, and write the values out."""
    labels = list(drafts)
    references = {label for label in labels if is_reference(by_label[label])}
    ranks = [
        places([_rankable(drafts[label][at], label in references) for label in labels], column.better)
        for at, column in enumerate(columns)
    ]
    return tuple(
        TableRow(
            label=label,
            family=by_label[label][0].family,
            values=tuple(_value(draft, ranks[at][row]) for at, draft in enumerate(drafts[label])),
            reference=label in references,
        )
        for row, label in enumerate(labels)
    )


def _rankable(draft: Draft, reference: bool) -> float | None:
    return mean(draft.numbers) if draft.numbers and not draft.limited and not reference else None


def _value(draft: Draft, place: int) -> Value:
    if not draft.numbers:
        return Value(_one_code(draft.codes), failed=bool(draft.codes))
    centre, std = mean(draft.numbers), sample_std(draft.numbers)
    return Value(
        text=f"{centre:,.{draft.digits}f}",
        spread="" if std is None else f"{std:.{draft.digits}f}",
        place=place,
        marks=(FEWER if draft.codes else "") + (LIMITED if draft.limited else ""),
        mean=centre,
        std=std,
        n=len(draft.numbers),
    )


def _one_code(codes: Sequence[str]) -> str:
    """The code of all seeds, or the most frequent one if they failed differently (the notes count them all)."""
    return Counter(codes).most_common(1)[0][0] if codes else ABSENT


def failure_notes(by_label: dict[str, list[RunEntry]]) -> list[str]:
    """Count the planned cells without a score, by code, and name the rows that average fewer seeds than planned."""
    cells = [cell for entries in by_label.values() for entry in entries for cell in entry.cells]
    codes = Counter(cell.code for cell in cells if cell.code)
    notes = []
    if codes:
        counted = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        notes.append(f"{codes.total()} of {len(cells)} planned cells (run × task) have no score: {counted}.")
    fewer = [f"{label} {_seeds_done(entries)}" for label, entries in by_label.items() if _seeds_done(entries)]
    if fewer:
        notes.append(f"{FEWER} fewer seeds than planned: {'; '.join(fewer)}.")
    if any(entry.limited for entries in by_label.values() for entry in entries):
        notes.append(f"{LIMITED} limited run (cut short for a try-out), not ranked.")
    return notes


def _seeds_done(entries: Sequence[RunEntry]) -> str:
    """How many seeds have scores, if only some have: "2 of 3 (1 OOM)"."""
    codes = Counter(entry.code for entry in entries if entry.code)
    scored = any(cell.score is not None for entry in entries for cell in entry.cells)
    if not codes or not scored or len(entries) == 1:
        return ""
    counted = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    return f"{len(entries) - codes.total()} of {len(entries)} ({counted})"


def slug(*parts: str) -> str:
    """A key that can serve as file name, label and id.

    >>> slug("cost", "facebook/bart-base", "A100 80 GB")
    'cost-facebook-bart-base-A100-80-GB'
    """
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in "-".join(parts))


def title_of(entries: Sequence[RunEntry]) -> str:
    """Backbone and suite, and the plain word where the data is synthetic."""
    worlds = sorted({entry.data or "data" for entry in entries if entry.synthetic})
    note = f" ({', '.join(worlds)}: synthetic data)" if worlds else ""
    return f"{entries[0].backbone}, {entries[0].suite}{note}"


def seeds_phrase(by_label: dict[str, list[RunEntry]]) -> str:
    """How many seeds a value rests on: "1 seed", "mean and sample standard deviation over 3 seeds"."""
    most = max(len(entries) for entries in by_label.values())
    if most == 1:
        return "one seed, so no spread"
    return f"mean with the sample standard deviation over {most} seeds as subscript"
