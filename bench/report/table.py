"""What a table is: columns, rows and values with their marks, independent of any output format."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from math import isfinite

from bench.report.families import sort_key
from bench.report.row_keys import rows_of_entries
from bench.report.run_entries import RunEntry
from bench.report.stats import finite_only, mean, rank_marks, sample_std
from bench.report.tuned_rates import untuned_note
from bench.states import CAUSES

REFERENCE = "full"  # fine-tuning everything: a reference row, never best or second
FEWER, LIMITED, STALE = "†", "‡", "§"
LIMITED_NOTE = f"{LIMITED} limited run (cut short for a try-out, or on a part of the published data), not ranked."
RANDOM = "random:"  # how names of backbones with random weights begin
LONGEST_KEY = 150  # signs of a file's name before its suffix
LONG = 20  # rows of a table; a longer one is sorted by family
ABSENT = "n/a"  # not planned, or a figure that the device does not have; never a failure


@dataclass(frozen=True)
class Column:
    """One column: its key, its title, and whether more (+1) or less (-1) is better (0: not ranked)."""

    key: str
    title: str
    better: int = 0


@dataclass(frozen=True)
class Value:
    """One value of a table as it is printed, with the unrounded numbers behind it.

    Attributes:
        text: the rounded number, or the code that stands in its place (then ``failed`` is set).
        spread: what is printed after ±: half of the interval, or of costs the sample standard deviation over seeds; ""
            where there is none.
        rank: 1 for the best and 2 for the second best value of the column, 0 for all others. In a column of scores, 1
            for all that cannot be told apart from the best, and never 2.
        marks: signs that notes explain, such as FEWER, LIMITED and STALE.
        mean, std, n: unrounded mean and sample standard deviation over ``n`` seeds.
        examples: the number of examples behind a score or a difference, 0 where they are not known.
        interval: the lower and upper end of the interval of a score, a difference or a mean over tasks.
    """

    text: str
    spread: str = ""
    rank: int = 0
    marks: str = ""
    failed: bool = False
    mean: float | None = None
    std: float | None = None
    n: int = 0
    examples: int = 0
    interval: tuple[float, float] | None = None

    @property
    def subscript(self) -> str:
        """What is printed small beside the value: the spread after ±, or the ends of an interval without one."""
        if self.spread or self.interval is None or self.failed:
            return f"±{self.spread}" if self.spread else ""
        return "[{}, {}]".format(*(f"{end:.2f}".replace("-", "−") for end in self.interval))


@dataclass(frozen=True)
class TableRow:
    """One method with its family and the runs that its values were computed from.

    ``reference`` rows are set apart and take no part in the ranking.
    """

    label: str
    family: str
    values: tuple[Value, ...]
    run_ids: tuple[str, ...]
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """A table with all that a reader needs to judge it: caption, notes, and for each row the runs behind it.

    Where ``family_heads`` is set, rows of a family stand together under the family's name. ``best`` says what a value
    of rank 1 is.
    """

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    family_heads: bool = False
    best: str = "best"


@dataclass(frozen=True)
class DraftValue:
    """A value before its column is ranked: the numbers of the seeds, and the codes of the seeds without one.

    ``marks`` are those of the row (LIMITED, STALE); a value that has any is not ranked.
    """

    numbers: tuple[float, ...]
    codes: tuple[str, ...]
    digits: int
    marks: str = ""


def entries_by_label(entries: Iterable[RunEntry]) -> dict[str, list[RunEntry]]:
    """Group entries into rows by what was run, and name the rows: the seeds of a configuration share a row.

    A name is the label of the entries. Where one label stands for several configurations, the settings in which they
    differ are added; marks say that a run of the row is limited or stale. Rows keep the order of the plan; more than
    LONG rows are sorted by family.
    """
    marked = {}
    for label, row in rows_of_entries(entries).items():
        marked[" ".join([label, *row_marks(row)])] = row
    if len(marked) > LONG:
        return dict(sorted(marked.items(), key=lambda row: sort_key(row[1][0].family)))
    return marked


def group_entries(entries: Sequence[RunEntry], *attributes: str) -> list[list[RunEntry]]:
    """Split entries by the values of the named attributes; groups keep the order in which they first appear."""

    def key(entry: RunEntry) -> tuple[str, ...]:
        return tuple(getattr(entry, name) or "" for name in attributes)

    first_index = {value: index for index, value in reversed(list(enumerate(map(key, entries))))}
    return [list(group) for _, group in groupby(sorted(entries, key=lambda entry: first_index[key(entry)]), key=key)]


def run_ids_of(entries: Iterable[RunEntry]) -> tuple[str, ...]:
    """Return the ids of the entries' runs in their order."""
    return tuple(entry.run_id for entry in entries)


def is_reference(entries: Sequence[RunEntry]) -> bool:
    """Whether these seeds of one method form the reference row."""
    return all(entry.label == REFERENCE for entry in entries)


def ranked_rows(
    by_label: dict[str, list[RunEntry]], drafts: dict[str, list[DraftValue]], columns: Sequence[Column]
) -> tuple[TableRow, ...]:
    """Rank each column by the unrounded means of the rows that may be ranked, and write the values out."""
    labels = list(drafts)
    references = {label for label in labels if is_reference(by_label[label])}
    ranks = [
        rank_marks([_rankable(drafts[label][at], label in references) for label in labels], column.better)
        for at, column in enumerate(columns)
    ]
    return tuple(
        TableRow(
            label=label,
            family=by_label[label][0].family,
            values=tuple(_value(draft, ranks[at][row]) for at, draft in enumerate(drafts[label])),
            run_ids=run_ids_of(by_label[label]),
            reference=label in references,
        )
        for row, label in enumerate(labels)
    )


def _rankable(draft: DraftValue, reference: bool) -> float | None:
    return mean(draft.numbers) if draft.numbers and not draft.marks and not reference else None


def _value(draft: DraftValue, rank: int) -> Value:
    numbers = finite_only(draft.numbers)
    codes = [*draft.codes, *[CAUSES["nan"].code] * (len(draft.numbers) - len(numbers))]
    if not numbers or not isfinite(mean(numbers)):
        return Value(_most_frequent_code(codes), failed=bool(codes))
    centre, std = mean(numbers), sample_std(numbers)
    return Value(
        text=f"{centre:,.{draft.digits}f}",
        spread="" if std is None else f"{std:.{draft.digits}f}",
        rank=rank,
        marks=(FEWER if codes else "") + draft.marks,
        mean=centre,
        std=std,
        n=len(numbers),
    )


def _most_frequent_code(codes: Sequence[str]) -> str:
    """The code that most seeds have (the notes count all of them), ABSENT if there is none."""
    return Counter(codes).most_common(1)[0][0] if codes else ABSENT


def failure_notes(by_label: dict[str, list[RunEntry]]) -> list[str]:
    """Count the planned cells without a score by code, and name the rows that average fewer seeds than planned."""
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
        notes.append(LIMITED_NOTE)
    if any(entry.stale for entries in by_label.values() for entry in entries):
        notes.append(f"{STALE} stale run (made of other data or weights than there are now), not ranked.")
    return notes + untuned_note(by_label)


def row_marks(entries: Iterable[RunEntry]) -> str:
    """Return the marks of a row whose values are not ranked: LIMITED, STALE, both or none."""
    entries = list(entries)
    return LIMITED * any(entry.limited for entry in entries) + STALE * any(entry.stale for entry in entries)


def _seeds_done(entries: Sequence[RunEntry]) -> str:
    """Say how many seeds have scores, as in "2 of 3 (1 OOM)"; "" where all or none have."""
    codes = Counter(entry.code for entry in entries if entry.code)
    scored = any(cell.score is not None for entry in entries for cell in entry.cells)
    if not codes or not scored or len(entries) == 1:
        return ""
    counted = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    return f"{len(entries) - codes.total()} of {len(entries)} ({counted})"


def slug(*parts: str) -> str:
    """Join words to a key that can serve as a file name, a LaTeX label and an HTML id.

    >>> slug("cost", "facebook/bart-base", "A100 80 GB")
    'cost-facebook-bart-base-A100-80-GB'
    """
    text = "-".join(parts)
    key = "".join(sign if (sign.isascii() and sign.isalnum()) or sign in "-_." else "-" for sign in text)
    if len(key) <= LONGEST_KEY:
        return key
    return f"{key[: LONGEST_KEY - 9]}-{sha256(text.encode('utf-8', errors='backslashreplace')).hexdigest()[:8]}"


def title_of(entries: Sequence[RunEntry]) -> str:
    """Return backbone and suite as a title, with a remark where the data is synthetic or the weights are random."""
    synthetic = sorted({entry.data or "data" for entry in entries if entry.synthetic})
    remarks = [f"{', '.join(synthetic)}: synthetic data"] if synthetic else []
    remarks += ["random weights"] * entries[0].backbone.startswith(RANDOM)
    note = f" ({'; '.join(remarks)})" if remarks else ""
    return f"{entries[0].backbone}, {entries[0].suite}{note}"


def seeds_phrase(by_label: dict[str, list[RunEntry]]) -> str:
    """Say for a caption how many seeds a value rests on, and what its subscript is."""
    most = max(len(entries) for entries in by_label.values())
    if most == 1:
        return "one seed, so no spread"
    return f"mean with the sample standard deviation over {most} seeds as subscript"
