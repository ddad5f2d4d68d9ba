"""Our scores beside published ones, where backbone, suite and method agree."""

from pathlib import Path

import pandas as pd

KEY = ["backbone", "suite", "method", "task"]
AVERAGE = "average"  # the task under which published tables list the mean over a suite
COLUMNS = [*KEY, "ours", "ours_std", "n", "paper", "paper_std", "delta", "agrees"]


def compare_with_paper(df: pd.DataFrame, paper_csv_dir: Path) -> pd.DataFrame:
    """Compare mean scores over seeds with published ones: one row per method and task.

    Synthetic data, limited runs, variants of a method and failed cells never take part; the frame is empty when nothing
    matches. Our average over a suite is taken of runs that have a score on exactly the tasks published for the suite.

    Args:
        df: the tidy frame of the records.
        paper_csv_dir: a folder of CSV files with the columns ``backbone, suite, method, task, mean, std``, in the unit
            that tables print; task "average" is the mean over the suite.

    Returns:
        A frame with the columns COLUMNS. ``delta`` is ours minus the paper's; ``agrees`` says whether the means differ
        by at most two joint standard deviations, ``2 sqrt(ours_std^2 + paper_std^2)``.
    """
    published = pd.concat([pd.read_csv(path) for path in sorted(paper_csv_dir.glob("*.csv"))], ignore_index=True)
    published = published.drop_duplicates(KEY).rename(columns={"mean": "paper", "std": "paper_std"})
    fair = df[df["score"].notna() & ~df["synthetic"].astype(bool) & ~df["limited"].astype(bool)]
    fair = fair[fair["label"] == fair["method"]]  # neither overrides nor a variant that a sweep defines
    fair = fair.assign(backbone=fair["backbone"].str.rsplit("/", n=1).str[-1])  # facebook/bart-base, or a folder of it
    run_columns = ["backbone", "suite", "method", "run_id"]
    averages = _average_of_suites(fair, published, run_columns)
    scores = pd.concat([fair[[*run_columns, "task", "score"]], averages])
    ours = scores.groupby(KEY, sort=False)["score"].agg(ours="mean", ours_std="std", n="count").reset_index()
    both = ours.merge(published, on=KEY)
    joint = (both["ours_std"].fillna(0.0) ** 2 + both["paper_std"].fillna(0.0) ** 2) ** 0.5
    delta = both["ours"] - both["paper"]
    return both.assign(delta=delta, agrees=delta.abs() <= 2 * joint)[COLUMNS]


def _average_of_suites(fair: pd.DataFrame, published: pd.DataFrame, run_columns: list[str]) -> pd.DataFrame:
    """The mean score of every run that has scores on exactly the tasks that are published for its suite."""
    tasks = published[published["task"] != AVERAGE].groupby("suite")["task"].agg(frozenset)
    run_tasks = fair.groupby("run_id")["task"].agg(frozenset)
    complete = fair[fair["run_id"].map(run_tasks) == fair["suite"].map(tasks)]
    return complete.groupby(run_columns, as_index=False)["score"].mean().assign(task=AVERAGE)
