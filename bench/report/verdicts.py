"""What can be said of a few rows that somebody asks about: which is better, how sure it is, what would decide it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.report.comparisons import compare_rows
from bench.report.paired_statistics import LEVEL, SIGNIFICANCE, Difference, holm
from bench.report.pairing import AVERAGE
from bench.report.power import POWER, DifferenceVariance
from bench.report.results import PAPER_AVERAGE
from bench.report.run_entries import RunEntry
from bench.report.standing import NORMALISED, STANDARDISED, Standing
from bench.report.table import Column, Table, TableRow, Value, run_ids_of, slug, title_of
from bench.report.task_columns import task_headings

COLUMNS = {STANDARDISED: "all tasks (standardised)", NORMALISED: "all tasks (normalised)", AVERAGE: PAPER_AVERAGE}


@dataclass(frozen=True)
class Verdict:
    """Two rows compared in one column: a task, or a mean over all tasks.

    Attributes:
        first, second: the labels of the rows; the difference is that of the first minus the second.
        column: the key of the column, ``title`` what it is called.
        p_value: corrected for all pairs that were asked about (Holm); None where nothing is known of the spread.
        pairs: the number of these pairs.
    """

    backbone: str
    suite: str
    first: str
    second: str
    column: str
    title: str
    difference: Difference
    p_value: float | None
    pairs: int

    @property
    def decided(self) -> bool:
        """Whether the two rows can be told apart."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    @property
    def _variance(self) -> DifferenceVariance:
        part = self.difference
        seed = (part.seed_variance or 0.0) * part.seeds
        rows = max(1, round(part.seed_freedom / (part.seeds - 1))) if part.seeds > 1 else 1
        return DifferenceVariance(seed, part.example_variance or 0.0, part.examples, rows, self.pairs)

    @property
    def seeds_needed(self) -> int | None:
        """The seeds, those that there are included, that decide it with probability POWER if the difference is as seen.

        None where nothing is known of how much seeds change, or where no number of them is enough.
        """
        if self.difference.seed_variance is None or not self.difference.mean:
            return None
        return self._variance.seeds_needed(self.difference.mean)

    @property
    def examples_needed(self) -> int | None:
        """The examples, those that there are included, that decide it with these seeds if the difference is as seen."""
        if self.difference.example_variance is None or not self.difference.mean:
            return None
        return self._variance.examples_needed(self.difference.mean, self.difference.seeds)

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        part, gap = self.difference, f"{abs(self.difference.mean):.2f}"
        if self.p_value is None:
            return f"{self.title}: {self.first} and {self.second} differ by {gap}, and nothing tells how sure that is."
        better, worse = (self.first, self.second) if part.mean > 0 else (self.second, self.first)
        if self.decided:
            return f"{self.title}: {better} beats {worse} by {gap} ({_p(self.p_value, 'p = ')})."
        more = " or ".join(
            f"{needed - there:,} more {name}"
            for needed, there, name in (
                (self.seeds_needed, part.seeds, "seeds"),
                (self.examples_needed, part.examples, "examples"),
            )
            if needed is not None and needed > there
        )
        outlook = (
            f"if that is the true difference, {more} would decide it" if more else "no more of the same decides it"
        )
        return f"{self.title}: {self.first} and {self.second} cannot be told apart, {gap} for {better} " + (
            f"({_p(self.p_value, 'p = ')}); {outlook}."
        )

    def content(self) -> dict[str, object]:
        """Return the verdict as what JSON can hold."""
        part, half = self.difference, self.difference.half_width
        return {
            **{"backbone": self.backbone, "suite": self.suite, "first": self.first, "second": self.second},
            **{"column": self.column, "title": self.title, "difference": part.mean},
            "low": None if half is None else part.mean - half,
            "high": None if half is None else part.mean + half,
            "p_value": part.p_value,
            "p_corrected": self.p_value,
            "probability_first_better": part.probability_above,
            **{"seeds": part.seeds, "examples": part.examples, "decided": self.decided},
            "seeds_needed": None if self.decided else self.seeds_needed,
            "examples_needed": None if self.decided else self.examples_needed,
            "words": self.words,
        }


def _p(value: float, name: str = "") -> str:
    return f"{name.replace('=', '').strip()} < 0.001".strip() if value < 0.001 else f"{name}{value:.3f}"


def verdicts(standing: Standing, labels: Sequence[str]) -> list[Verdict]:
    """Compare rows of a standing in every column, the means over all tasks first.

    The variance over seeds is estimated from all rows of the standing; p-values are corrected for the pairs among
    ``labels``, of which at least two are rows.
    """
    scales = {STANDARDISED: standing.spreads} if standing.complete else {}
    scales |= {NORMALISED: {task: b - a for task, (a, b) in standing.ends.items()}} if standing.ends else {}
    scales |= {AVERAGE: dict.fromkeys(standing.tasks, 1.0)} if len(standing.tasks) > 1 else {}
    compared = compare_rows(standing.rows, standing.tasks, scales)
    first = next(iter(standing.rows.values()))[0]
    entries = [entry for row in standing.rows.values() for entry in row]
    titles = COLUMNS | {heading.task: heading.title for heading in task_headings(entries)}
    made = []
    for key in [*scales, *standing.tasks]:
        pairs = [(a, b, part) for a, b in combinations(labels, 2) if (part := compared.difference(key, a, b))]
        corrected = holm([part.p_value for *_, part in pairs])
        made += [
            Verdict(first.backbone, first.suite, a, b, key, titles[key], part, p_value, len(pairs))
            for (a, b, part), p_value in zip(pairs, corrected, strict=True)
        ]
    return made


def verdict_table(standing: Standing, made: Sequence[Verdict]) -> Table:
    """Return verdicts of one standing as a table, a row for every pair and column."""
    entries: list[RunEntry] = [entry for row in standing.rows.values() for entry in row]
    columns = [Column("difference", "Difference"), Column("p_corrected", "p (Holm)")]
    columns += [Column("probability", "P(first better)"), Column("seeds", "Seeds"), Column("examples", "Examples")]
    columns += [Column("seeds_needed", "Seeds needed"), Column("examples_needed", "Examples needed")]
    rows = [
        TableRow(
            f"{each.first} − {each.second}: {each.title}",
            "",
            _values(each),
            run_ids_of([*standing.rows[each.first], *standing.rows[each.second]]),
        )
        for each in made
    ]
    title = f"{title_of(entries)}: {' against '.join(dict.fromkeys(x for v in made for x in (v.first, v.second)))}"
    seeds = max(each.difference.seeds for each in made)
    one = " One seed: how much another seed would change is not in the intervals." if seeds == 1 else ""
    return Table(
        key=slug("comparison", made[0].backbone, made[0].suite),
        title=title,
        caption=f"{title}. Differences paired over seeds and examples, ± half of the {LEVEL:.0%} interval.{one}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            f"p is corrected for {made[0].pairs} pair{'s' * (made[0].pairs > 1)} a column (Holm). P(first better) "
            "is the probability that the true difference is above 0, by the scores alone. Needed in all: what decides "
            f"it with probability {POWER:.0%} if the true difference is the one seen.",
        ),
    )


def _values(verdict: Verdict) -> tuple[Value, ...]:
    part, half = verdict.difference, verdict.difference.half_width
    text = f"{part.mean:+.2f}".replace("-", "−")
    ends = None if half is None else (part.mean - half, part.mean + half)
    spread = "" if half is None else f"{half:.2f}"
    difference = Value(text, spread, mean=part.mean, n=part.seeds, examples=part.examples, interval=ends)
    needed = [None, None] if verdict.decided else [verdict.seeds_needed, verdict.examples_needed]
    return (
        difference,
        _number(verdict.p_value, "unknown" if verdict.p_value is None else _p(verdict.p_value)),
        _number(part.probability_above, "unknown" if half is None else f"{part.probability_above:.3f}"),
        _number(part.seeds, str(part.seeds)),
        _number(part.examples, f"{part.examples:,}" if part.examples else "unknown"),
        *(_number(each, "decided" if verdict.decided else f"{each:,}" if each else "–") for each in needed),
    )


def _number(number: float | None, text: str) -> Value:
    return Value(text, mean=None if number is None else float(number))
