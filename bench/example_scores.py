"""Scores of single examples, from kept predictions: they let two runs be compared example by example."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tasks
from bench.files import CorruptFile
from bench.run_dir import RunDir
from bench.tasks import Example

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 0.01  # scores as they are reported are rounded to two decimals in places


def example_scores(results: Path, run_ids: Iterable[str]) -> dict[str, dict[str, "pd.Series"]]:
    """Return, by run and task, the reported metric of every example, indexed by the examples' ids.

    A run's task is left out where there is no score, where the predictions cannot be read, and where the mean over the
    examples is not the reported score: then the metric is none that examples can be compared by.
    """
    import pandas as pd

    groups: dict[tuple[str, str], dict[str, list[str]]] = {}  # runs on the same examples are scored together
    reported: dict[tuple[str, str], float] = {}
    for run_id in dict.fromkeys(run_ids):
        try:
            folder = RunDir(results, run_id)
            record = folder.read()
            for name, score in record.scores.items() if record else ():
                if score.status == "done":
                    rows = folder.read_predictions(name)
                    shared = json.dumps([[row["id"], row["reference"]] for row in rows])
                    groups.setdefault((name, shared), {})[run_id] = [row["prediction"] for row in rows]
                    reported[run_id, name] = score.metrics[score.metric]
        except CorruptFile:
            continue
    found: dict[str, dict[str, pd.Series]] = {}
    for (name, shared), said in groups.items():
        examples = [Example(identity, "", (), (), reference) for identity, reference in json.loads(shared)]
        if not examples:
            continue
        for run_id, predictions in said.items():
            scores = tasks.get(name).score(examples, predictions).examples
            if abs(sum(scores) / len(scores) - reported[run_id, name]) <= ROUNDING:
                found.setdefault(run_id, {})[name] = pd.Series(scores, index=[e.id for e in examples])
    return found
