"""Our scores beside published ones, where backbone, suite and method agree."""

from pathlib import Path

import pandas as pd

KEY = ["backbone", "suite", "method", "task"]
COLUMNS = [*KEY, "ours", "ours_std", "n", "paper", "paper_std", "delta", "agrees"]


def compare_with_paper(df: pd.DataFrame, paper_csv_dir: Path) -> pd.DataFrame:
    """Compare mean scores over seeds with the tables in ``paper_csv_dir/*.csv``: one row per method and task.

    ``agrees`` says whether the means differ by at most two joint standard deviations, ``2 sqrt(s_ours^2 + s_paper^2)``.
    Synthetic data, limited runs, variants of a method and failed cells never take part; the frame is empty when nothing
    matches. Each CSV has ``backbone, suite, method, task, mean, std``; task "average" is the mean over the suite.
    """
    from bench import suites

    published = pd.concat([pd.read_csv(path) for path in sorted(paper_csv_dir.glob("*.csv"))], ignore_index=True)
    published = published.drop_duplicates(KEY).rename(columns={"mean": "paper", "std": "paper_std"})
    fair = df[df["score"].notna() & ~df["synthetic"].astype(bool) & ~df["limited"].astype(bool)]
    fair = fair[fair["label"] == fair["method"]]  # neither overrides nor a variant of the sweep's own
    fair = fair.assign(backbone=fair["backbone"].str.rsplit("/", n=1).str[-1])  # facebook/bart-base, or a folder of it
    official = {suite: set(suites.get(suite).official_tasks) for suite in fair["suite"].unique()}
    # the published averages are those over the official tasks, no fewer and no others
    whole = fair.groupby("run_id").filter(lambda rows: set(rows["task"]) == official[rows["suite"].iloc[0]])
    run = ["backbone", "suite", "method", "run_id"]
    averages = whole.groupby(run, as_index=False)["score"].mean().assign(task="average")
    scores = pd.concat([fair[[*run, "task", "score"]], averages])
    ours = scores.groupby(KEY, sort=False)["score"].agg(ours="mean", ours_std="std", n="count").reset_index()
    both = ours.merge(published, on=KEY)
    joint = (both["ours_std"].fillna(0.0) ** 2 + both["paper_std"].fillna(0.0) ** 2) ** 0.5
    delta = both["ours"] - both["paper"]
    return both.assign(delta=delta, agrees=delta.abs() <= 2 * joint)[COLUMNS]
