"""The learning rates in the miniature's recipe: ``python -m benchmarks.miniature_tuning`` (half an hour on two cores).

Every method gets the same six values of one rate, on both suites, and is scored on what is held out of
the training data. The rate that is chosen has the highest mean, over the eight tasks, of the score as a part of the
method's best score on the task. What was tried stands in ``bench/recipes/mini-tuning.csv``, what was chosen in
``bench/recipes/mini.toml``. A method that is added to ``SEARCHES`` is tuned by the same command; what is done is kept.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from bench.records import load_frame

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "bench" / "recipes" / "mini.toml"
LEDGER = ROOT / "bench" / "recipes" / "mini-tuning.csv"
BACKBONE = "mini-bart"
PET = ("lora", "adapter", "vl-adapter", "vl-pet-small", "vl-pet-middleX", "vl-pet-large", "compacter+vl-pet-large")
#: name of the search: methods, the rate that is searched, and its values: all six, so that a search anew is the same
#: whatever rate stands in the recipe (which must be one of them)
SEARCHES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "tune-pet": (PET, "lr", ("1e-3", "2e-3", "4e-3", "6e-3", "8e-3", "1.6e-2")),
    "tune-full": (("full",), "lr", ("1e-4", "2e-4", "4e-4", "8e-4", "1.6e-3", "3.2e-3")),
    "tune-projector": (("projector-only",), "projector_lr", ("1e-3", "2e-3", "4e-3", "6e-3", "8e-3", "1.6e-2")),
}


def command(name: str, results: Path, reports: Path) -> list[str]:
    """Return the command of one search."""
    methods, rate, values = SEARCHES[name]
    words = ["tune", "--methods", ",".join(methods), "--backbone", BACKBONE, "--suites", "image-text,video-text"]
    words += ["--space", f"{rate}={','.join(values)}", "--sampler", "grid", "--trials", str(len(values))]
    return [*words, "--name", name, "--results", str(results), "--reports", str(reports)]


def tried(results: Path) -> pd.DataFrame:
    """Return a row for every method, rate, value, suite and task with its score on held-out training data."""
    frame = load_frame(results, True)
    rates = {method: rate for methods, rate, _ in SEARCHES.values() for method in methods}
    frame = frame[frame["method"].isin(list(rates)) & (frame["backbone"] == BACKBONE)].copy()
    frame["rate"] = frame["method"].map(rates)
    settings = frame["settings"].map(json.loads)
    frame["value"] = [float(setting[rate]) for setting, rate in zip(settings, frame["rate"], strict=True)]
    columns = ["method", "rate", "value", "suite", "task", "score"]
    return frame[columns].sort_values(columns[:-1]).drop_duplicates(columns[:-1]).reset_index(drop=True)


def chosen(ledger: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return the rate and its value that are best for each method; a run without a score counts as 0."""
    part = ledger["score"].fillna(0) / ledger.groupby(["method", "task"])["score"].transform("max")
    means = ledger.assign(part=part).groupby(["method", "rate", "value"])["part"].mean().reset_index()
    best = means.loc[means.groupby("method")["part"].idxmax()]
    return {row.method: (row.rate, row.value) for row in best.itertuples()}


def recipe_text(text: str, choice: dict[str, tuple[str, float]]) -> str:
    """Return the recipe with the chosen rates between its marks."""
    order = [method for methods, _, _ in SEARCHES.values() for method in methods]
    tables = [
        f"[method.{json.dumps(m) if '+' in m else m}]\n{choice[m][0]} = {choice[m][1]:g}\n"
        for m in order
        if m in choice
    ]
    pattern = re.compile(r"(# tuned:begin.*?\n).*?(# tuned:end)", flags=re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{chr(10).join(tables)}{match[2]}", text)


def main() -> None:
    """Search what has not been searched, and write ledger and recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results folder (results)")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="reports folder (reports)")
    arguments = parser.parse_args()
    for name in SEARCHES:
        words = command(name, arguments.results, arguments.reports)
        subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, check=True)
    ledger = tried(arguments.results)
    ledger.to_csv(LEDGER, index=False, float_format="%.6g")
    RECIPE.write_text(recipe_text(RECIPE.read_text(encoding="utf-8"), chosen(ledger)), encoding="utf-8")
    print(f"wrote {LEDGER.relative_to(ROOT)} and {RECIPE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
