"""Our scores beside published ones, where backbone, suite and method agree and nothing was cut short or made up."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.data.roots import OFFICIAL
from bench.errors import UsageError
from bench.report.run_entries import configuration

ROW = ["backbone", "suite", "method", "settings"]
KEY = ["backbone", "suite", "method", "task"]
AVERAGE = "average"  # the task under which published tables list the mean over a suite
COLUMNS = [*ROW, "task", "ours", "ours_std", "n", "paper", "paper_std", "delta", "agrees"]
#: options, by method, that differ from our defaults and are those of the published runs
PUBLISHED_OPTIONS = {"lst": {"side_init": "fisher-v2"}}


@dataclass(frozen=True)
class PaperComparison:
    """The scores beside published ones, and why runs are not among them: reasons with their numbers of runs.

    ``table`` has the columns COLUMNS. A row is a method with certain settings on one task; ``settings`` names where
    they differ from the recipe of the paper and is empty where they do not. ``delta`` is ours minus the paper's;
    ``agrees`` says whether the means differ by at most two joint standard deviations,
    ``2 sqrt(ours_std^2 + paper_std^2)``.
    """

    table: pd.DataFrame
    left_out: Mapping[str, int]

    @property
    def reasons(self) -> list[str]:
        """Lines that say what is left out and why, and why nothing is compared where that is so."""
        counted = [f"{count} {'run' if count == 1 else 'runs'}: {why}" for why, count in self.left_out.items()]
        lines = [f"left out of the comparison with the paper: {'; '.join(counted)}"] if counted else []
        if not self.table.empty:
            return lines
        return ["no score to compare with the paper", *(lines or ["there are no records of the planned runs"])]


def compare_with_paper(
    df: pd.DataFrame,
    paper_csv_dir: Path,
    *,
    unpretrained: Collection[str] = (),
    paper_settings: Callable[[str, str, str], Mapping[str, Any] | None] = lambda *_: None,
    published_name: Callable[[str], str] = lambda name: name.rstrip("/").rpartition("/")[2],
) -> PaperComparison:
    """Compare mean scores over seeds with published ones: one row per method, settings and task.

    Left out are runs without a score, on synthetic data, limited, blind, stale or for tuning, those on a backbone
    without trained weights, those with changed options of the method, and those of which nothing is published. Our
    average over a suite is taken of runs that have a score on exactly the tasks published for the suite.

    Args:
        df: the tidy frame of the records of the planned runs.
        paper_csv_dir: a folder of CSV files with the columns ``backbone, suite, method, task, mean, std``, in the unit
            that tables print; task "average" is the mean over the suite.
        unpretrained: names of backbones whose weights are drawn at random.
        published_name: gives the name that a backbone has in published tables.
        paper_settings: gives the recipe of the paper for a backbone, a suite and a method, or None where there is none.

    Raises:
        UsageError: there are no published numbers in the folder.
    """
    published = _published(paper_csv_dir)
    runs = df.drop_duplicates("run_id")
    names = [published_name(str(backbone)) for backbone in runs["backbone"]]
    has_score = pd.to_numeric(df["score"], errors="coerce").abs() < float("inf")  # False where it is NaN
    scored = set(df[has_score]["run_id"])
    of_paper = set(published[["backbone", "suite", "method"]].itertuples(index=False, name=None))
    left_out: Counter[str] = Counter()
    settings: dict[str, str] = {}
    rows: list[dict[Any, Any]] = runs.to_dict("records")
    for row, name in zip(rows, names, strict=True):
        facts = configuration(row.get("overrides"), row.get("settings"))
        recipe = configuration({}, row.get("settings"))
        published_options = configuration(PUBLISHED_OPTIONS.get(row["method"]), None)
        options = {key: facts.get(key, "default") for key in [*facts, *published_options] if key not in recipe}
        changed = [key for key, value in options.items() if published_options.get(key) != value]
        reason = _reason(row, recipe, changed, row["run_id"] in scored, unpretrained)
        if not reason and (name, row["suite"], row["method"]) not in of_paper:
            reason = "nothing is published of this backbone, suite and method"
        if reason:
            left_out[reason] += 1
            continue
        tasks = list(df[df["run_id"] == row["run_id"]]["task"])
        expected = paper_settings(row["backbone"], row["suite"], row["method"])
        settings[row["run_id"]] = _differing(row, recipe, expected, tasks, published)
    fair = df[df["run_id"].isin(settings) & has_score]
    fair = fair.assign(backbone=fair["run_id"].map(dict(zip(runs["run_id"], names, strict=True))))
    fair = fair.assign(settings=fair["run_id"].map(settings).astype(str), score=fair["score"].astype(float))
    scores = pd.concat([fair[[*ROW, "run_id", "task", "score"]], _average_of_suites(fair, published)])
    groups = scores.groupby([*ROW, "task"], sort=False)["score"]
    ours = groups.agg(ours="mean", ours_std="std", n="count").reset_index()
    both = ours.merge(published, on=KEY)
    joint = (both["ours_std"].fillna(0.0) ** 2 + both["paper_std"].fillna(0.0) ** 2) ** 0.5
    delta = both["ours"] - both["paper"]
    return PaperComparison(both.assign(delta=delta, agrees=delta.abs() <= 2 * joint)[COLUMNS], dict(left_out))


def _published(folder: Path) -> pd.DataFrame:
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise UsageError(f"{folder}: no published numbers there; they belong to the repository (results/paper)")
    published = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    return published.drop_duplicates(KEY).rename(columns={"mean": "paper", "std": "paper_std"})


def _reason(
    row: Mapping[str, Any],
    recipe: Mapping[str, str],
    options: Collection[str],
    has_score: bool,
    unpretrained: Collection[str],
) -> str:
    """Why a run cannot be compared, whatever is published; "" where it can."""
    reasons = {
        "no score": not has_score,
        "synthetic data": bool(row.get("synthetic")),
        "limited": bool(row.get("limited")) or recipe.get("limit", "none") != "none",
        "scored for tuning": bool(row.get("tuning")) or recipe.get("evaluate") == "tuning",
        "stale": row.get("stale") is True,
        "blind (visual=zero)": recipe.get("visual") == "zero",
        "a backbone without trained weights": row["backbone"] in unpretrained,
        f"options of the method changed ({', '.join(sorted(options))})": bool(options),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _differing(
    row: Mapping[str, Any],
    recipe: Mapping[str, str],
    expected: Mapping[str, Any] | None,
    tasks: list[str],
    published: pd.DataFrame,
) -> str:
    """Name the settings that are not those of the paper, as in "epochs=1, tasks=vqa"."""
    paper = configuration({}, dict(expected)) if expected is not None else recipe
    changed = [f"{key}={value}" for key, value in recipe.items() if paper.get(key) != value]
    if row.get("data") not in (None, OFFICIAL):
        changed.append(f"data={row['data']}")
    of_suite = set(published[published["suite"] == row["suite"]]["task"]) - {AVERAGE}
    return ", ".join([*changed, *([f"tasks={'+'.join(tasks)}"] if set(tasks) != of_suite else [])])


def _average_of_suites(fair: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The mean score of every run that has scores on exactly the tasks that are published for its suite."""
    tasks = published[published["task"] != AVERAGE].groupby("suite")["task"].agg(frozenset)
    run_tasks = fair.groupby("run_id")["task"].agg(frozenset)
    complete = fair[fair["run_id"].map(run_tasks) == fair["suite"].map(tasks)]
    return complete.groupby([*ROW, "run_id"], as_index=False)["score"].mean().assign(task=AVERAGE)
