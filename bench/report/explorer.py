"""The numbers behind the plot of a page in which readers choose the axes themselves."""

from collections.abc import Sequence
from typing import Any

from bench.report.figure import family_style
from bench.report.run_entries import RunEntry
from bench.report.standing import standings
from bench.report.stats import finite_only, mean
from bench.report.task_columns import task_headings

MIB = 2**20
REFERENCES = "reference"  # the family of rows that bound the others
#: what can be read off a run's measurements: title, unit by which a value is multiplied, and whether less is better
#: (-1) or neither (0: memory of the process has little to do with a method)
COSTS = {
    "percent": ("Trainable parameters (%)", 1.0, -1),
    "step_seconds": ("Training step (ms)", 1e3, -1),
    "train_seconds": ("Training (s)", 1.0, -1),
    "peak_memory_bytes": ("Peak device memory (MiB)", 1 / MIB, -1),
    "host_memory_bytes": ("Peak host memory of the process (MiB)", 1 / MIB, 0),
}


def explorer_data(entries: Sequence[RunEntry]) -> list[dict[str, Any]]:
    """Return, for each backbone and suite, its title, the axes by key, and a point for every row with a score.

    An axis has a title and says whether more (1) or less (-1) is better, or neither (0). A point has a label, a colour,
    whether it is a reference, and its values by axis.
    """
    return [_group(standing.rows, standing.tasks) for standing in standings(entries) if standing.leader]


def _group(rows: dict[str, list[RunEntry]], tasks: Sequence[str]) -> dict[str, Any]:
    every = [entry for row in rows.values() for entry in row]
    titles = {heading.task: heading.title for heading in task_headings(every)}
    axes = {key: {"title": title, "better": better} for key, (title, _, better) in COSTS.items()}
    axes |= {"average": {"title": "Paper's Avg.", "better": 1}}
    axes |= {task: {"title": titles[task], "better": 1} for task in tasks}
    points: list[dict[str, Any]] = []
    for label, row in rows.items():
        values: dict[str, float | None] = {
            key: _mean([entry.measured[key] * unit for entry in row if key in entry.measured])
            for key, (_, unit, _) in COSTS.items()
        }
        values["average"] = _mean(finite_only(entry.average(tasks) for entry in row))
        values |= {task: _mean(finite_only(entry.score(task) for entry in row)) for task in tasks}
        style = family_style(row[0].family)
        points.append(
            {"label": label, "colour": style.colour, "reference": row[0].family == REFERENCES, "values": values}
        )
    used = {key for point in points for key, value in point["values"].items() if value is not None}
    first = every[0]
    return {
        "title": f"{first.backbone}, {first.suite}",
        "axes": {key: axis for key, axis in axes.items() if key in used},
        "points": points,
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(mean(values), 6) if values else None
