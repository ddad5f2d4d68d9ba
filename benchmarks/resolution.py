"""What the miniature suite can tell apart: ``python -m benchmarks.resolution``.

It reads the runs of ``bench sweep default --seeds 1,2,3``. For every task, half of the 95 % interval of the difference
between two methods, with one, three and five seeds. Two variances of paired differences are measured and added,
that between seeds (mean over pairs of methods) and that between examples (median over them). Examples of one image
count as if they were independent.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from bench.example_scores import example_scores
from bench.records import load_frame
from benchmarks.readme_tables import ROOT, replaced

SEEDS = (1, 3, 5)
PAGE, MARK = ROOT / "docs" / "miniature.md", "resolution"
Z = 1.96


def half_widths(scores: np.ndarray) -> list[float]:
    """Return the half-widths for 1, 3 and 5 seeds of the scores ``(methods, seeds, examples)`` of one task.

    What the mean of seeds leaves of an example's difference is estimated from one seed and from all of them, and
    extended to other numbers of seeds: a part that stays, and a part that shrinks with the number.
    """
    methods, seeds, examples = scores.shape
    pairs = list(combinations(range(methods), 2))
    between = np.mean([(scores[a] - scores[b]).mean(1).var(ddof=1) for a, b in pairs])
    single = np.median([(scores[a] - scores[b]).var(1, ddof=1).mean() for a, b in pairs])
    mean = np.median([(scores[a] - scores[b]).mean(0).var(ddof=1) for a, b in pairs])
    stays = max(0.0, (seeds * mean - single) / (seeds - 1))
    return [Z * float(np.sqrt(between / n + (stays + (single - stays) / n) / examples)) for n in SEEDS]


def table(results: Path, backbone: str) -> str:
    """Return the Markdown table over all tasks of the methods that have three seeds or more."""
    frame = load_frame(results)
    frame = frame[(frame["backbone"] == backbone) & frame["synthetic"].astype(bool) & (frame["status"] == "done")]
    frame = frame[frame["overrides"].eq("{}") & ~frame["limited"].astype(bool) & frame["method"].ne("full")]
    frame = frame[frame["settings"].map(lambda text: json.loads(text).get("visual") != "zero")]  # blind runs
    lines = ["| task | examples | 1 seed | 3 seeds | 5 seeds |", "|---|--:|--:|--:|--:|"]
    by_run = example_scores(results, frame["run_id"].unique())
    for (_, task), rows in frame.groupby(["suite", "task"], sort=False):
        series = {key: group.sort_values("seed")["run_id"].tolist()[:3] for key, group in rows.groupby("method")}
        runs = [ids for ids in series.values() if len(ids) == 3 and all(task in by_run.get(i, {}) for i in ids)]
        if len(runs) < 2:
            continue
        order = by_run[runs[0][0]][task].index
        scores = np.array([[by_run[i][task].reindex(order).to_numpy(float) for i in ids] for ids in runs])
        widths = " | ".join(f"{width:.1f}" for width in half_widths(scores))
        label = pd.unique(rows["task_label"])[0]
        lines.append(f"| {label} | {scores.shape[2]:,} | {widths} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table to docs/miniature.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results folder (results)")
    parser.add_argument("--backbone", default="mini-bart", help="backbone (mini-bart)")
    arguments = parser.parse_args()
    content = table(arguments.results, arguments.backbone)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, content), encoding="utf-8")
    print(content)


if __name__ == "__main__":
    main()
