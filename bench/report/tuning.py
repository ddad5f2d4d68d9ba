"""What tuning gave each method: how many configurations were tried, the best one, and the best of k at equal k."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import pandas as pd

from bench.report.run_entries import RunEntry
from bench.report.stats import finite_only, mean
from bench.report.table import (
    Column,
    Table,
    TableRow,
    Value,
    entries_by_label,
    group_entries,
    run_ids_of,
    slug,
    title_of,
)
from bench.report.task_columns import task_order


def expected_best(scores: Sequence[float], k: int) -> float:
    """Return the expected maximum of ``k`` of the scores, drawn without replacement; k is at most their number.

    What is no finite number takes no part.

    The i-th smallest of n scores is the maximum of C(i-1, k-1) of the C(n, k) subsets. Drawn with replacement it would
    be the estimator of Dodge et al. (Show Your Work, EMNLP 2019), which is biased low.

    >>> expected_best([1.0, 2.0, 4.0], 1), expected_best([1.0, 2.0, 4.0], 2), expected_best([4.0, 1.0, 2.0], 3)
    (2.3333333333333335, 3.3333333333333335, 4.0)
    """
    ordered = sorted(finite_only(scores))
    return sum(comb(i, k - 1) * score for i, score in enumerate(ordered)) / comb(len(ordered), k)


@dataclass(frozen=True)
class TunedMethod:
    """One method on one backbone and suite with the runs of all its configurations.

    Attributes:
        method: the label of the default configuration, the one that all others change.
        scores: by label of the configuration, its average over tasks and seeds, where there is one.
        tried: how many configurations were tried, those that failed included.
    """

    method: str
    entries: tuple[RunEntry, ...]
    scores: Mapping[str, float]
    tried: int

    @property
    def best(self) -> str:
        """The label of the best configuration."""
        return max(self.scores, key=lambda label: self.scores[label])


def tuned_methods(entries: Sequence[RunEntry]) -> list[list[TunedMethod]]:
    """Return the methods that were tuned and have a score, in one list per backbone and suite.

    A configuration that failed counts as tried but has no score; one that the method does not offer does not count.
    """
    per_suite = []
    for group in group_entries([entry for entry in entries if entry.base], "backbone", "suite"):
        methods, tasks = [], task_order(group)
        for members in group_entries(group, "base"):
            rows = entries_by_label(members)
            plain = {label: row[0].label for label, row in rows.items()}  # without marks, to be known by in the plan
            names = {label: name if list(plain.values()).count(name) == 1 else label for label, name in plain.items()}
            averages = {names[label]: finite_only(e.average(tasks) for e in row) for label, row in rows.items()}
            tried = sum(any(entry.code != "unsupported" for entry in row) for row in rows.values())
            scores = {label: mean(values) for label, values in averages.items() if values}
            methods.append(TunedMethod(members[0].base, tuple(members), scores, tried))
        per_suite.append([method for method in methods if method.scores])
    return [methods for methods in per_suite if methods]


def tuning_tables(entries: Sequence[RunEntry]) -> list[Table]:
    """Return one table per backbone and suite: methods by their default, expected best of k, and best score."""
    return [_table(methods) for methods in tuned_methods(entries)]


def _table(methods: Sequence[TunedMethod]) -> Table:
    first = methods[0].entries[0]
    equal = min(len(method.scores) for method in methods)
    budgets = [k for k in (2, 4, 8, 16, 32, 64) if k < equal] + [equal] * (equal > 1)
    columns = [Column("tried", "Tried"), Column("default", "Default", better=+1)]
    columns += [Column(f"best_of_{k}", f"Best of {k}", better=+1) for k in budgets]
    columns += [Column("best", "Best"), Column("settings", "Its settings")]
    rows = []
    for method in methods:
        scores = list(method.scores.values())
        default = method.scores.get(method.method)
        values = [Value(str(method.tried), mean=float(method.tried))]
        values += [_value(default), *(_value(expected_best(scores, k)) for k in budgets)]
        settings = "the default" if method.best == method.method else method.best.removeprefix(f"{method.method},")
        values += [_value(max(scores)), Value(settings.replace(",", ", "))]
        rows.append(TableRow(method.method, method.entries[0].family, tuple(values), run_ids_of(method.entries)))
    title = f"Tuning: {title_of([e for m in methods for e in m.entries])}"
    return Table(
        key=slug("tuning", first.backbone, first.suite),
        title=title,
        caption=f"{title}. Average over tasks on what tuning may look at, never on what tables report.",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "Best of k: the expected best of k of the configurations, drawn without replacement; "
            f"all methods have {equal} configurations with a score or more, so up to there they compare.",
        ),
    )


def _value(number: float | None) -> Value:
    return Value("no score", failed=True) if number is None else Value(f"{number:.2f}", mean=number, n=1)


def ledger(df: pd.DataFrame) -> pd.DataFrame:
    """Return how many configurations of each method were tried, and in how many runs.

    ``df`` is the frame of the runs that tune. Seeds of the same settings are one configuration, whether it failed or
    not.
    """
    rows = df.assign(configuration=df["overrides"] + df["settings"] + df["data"])
    keys = ["backbone", "suite", "method"]
    per_method = rows.groupby(keys, sort=False)
    return per_method.agg(configurations=("configuration", "nunique"), runs=("run_id", "nunique")).reset_index()
