"""Scores drawn again: what means and ranks over tasks might have been with other seeds and other examples.

The bootstrap is parametric (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 6.5), because two or
three seeds are too few to draw from. Every draw adds two kinds of noise to the mean scores of the rows:

- of the examples, by task: normal with the covariance over the examples that all rows share, which keeps that an
  example is easy or hard for all of them;
- of the seeds: Student's t with the covariance over tasks of the residuals of rows by seeds, pooled over the rows.

Both are those of the model in :mod:`bench.report.paired_statistics`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bench.report.pairing import by_occurrence
from bench.report.run_entries import RunEntry

DRAWS = 2000


def drawn_scores(
    rows: Mapping[str, Sequence[RunEntry]], tasks: Sequence[str], draws: int = DRAWS
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mean scores as an array of rows by tasks, and draws of them as an array of draws by rows by tasks.

    Every row has at least one run with a score on each task. The draws are None where there is a task of which neither
    a second seed nor the scores of examples are known; they are the same on every call.
    """
    generator = np.random.default_rng(0)
    runs = [[entry for entry in row if entry.average(tasks) is not None] for row in rows.values()]
    means = np.array([[np.mean([entry.score(task) for entry in row]) for task in tasks] for row in runs], dtype=float)
    noise = np.zeros((draws, *means.shape))
    seeds = _seed_covariance(runs, tasks)
    if seeds is not None:
        covariance, freedom = seeds
        scatter = np.sqrt(freedom / generator.chisquare(freedom, (draws, 1, 1)))
        counts = np.array([len(row) for row in runs])[:, None]
        noise += scatter * (generator.standard_normal(noise.shape) @ _root(covariance).T) / np.sqrt(counts)
    for at, task in enumerate(tasks):
        covariance_of_rows = _example_covariance(runs, task)
        if covariance_of_rows is not None:
            noise[:, :, at] += generator.standard_normal(noise.shape[:2]) @ _root(covariance_of_rows).T
        elif seeds is None:
            return means, None
    return means, means + noise


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix whose product with its transpose is the covariance; what estimation made negative is 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _seed_covariance(runs: Sequence[Sequence[RunEntry]], tasks: Sequence[str]) -> tuple[np.ndarray, int] | None:
    """The covariance over tasks of a run's scores from seed to seed, with its degrees of freedom."""
    seeds = sorted({entry.seed for entry in max(runs, key=len)})
    by_seed = [{entry.seed: [entry.score(task) for task in tasks] for entry in row} for row in runs]
    table = np.array([[row[s] for s in seeds] for row in by_seed if set(seeds) <= set(row)], dtype=float)
    count = len(table)
    if len(seeds) < 2:
        return None
    rest = table - table.mean(axis=1, keepdims=True)
    if count > 1:
        rest = rest - rest.mean(axis=0, keepdims=True)
    freedom = max(count - 1, 1) * (len(seeds) - 1)
    flat = rest.reshape(-1, len(tasks))
    return flat.T @ flat / freedom, freedom


def _example_covariance(runs: Sequence[Sequence[RunEntry]], task: str) -> np.ndarray | None:
    """The covariance over rows of their mean scores, as far as the choice of the examples makes it."""
    if not all(task in entry.examples for row in runs for entry in row):
        return None
    series = [[by_occurrence(entry.examples[task]) for entry in row] for row in runs]
    flat = [one for row in series for one in row]
    if all(one.index.equals(flat[0].index) for one in flat):
        columns = np.column_stack([one.to_numpy() for one in flat])
    else:
        columns = pd.concat(flat, axis=1, join="inner").to_numpy(dtype=float)
    columns = columns[np.isfinite(columns).all(axis=1)]
    if (count := len(columns)) < 2:
        return None
    split = np.split(columns, np.cumsum([len(row) for row in series])[:-1], axis=1)
    covariance = np.atleast_2d(np.cov(np.column_stack([part.mean(axis=1) for part in split]), rowvar=False)) / count
    for at, part in enumerate(split):
        if (number := part.shape[1]) > 1:  # what varies from run to run is in the part of the seeds
            rest = part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean()
            covariance[at, at] -= float((rest**2).sum()) / ((count - 1) * (number - 1)) / (number * count)
    return covariance if np.isfinite(covariance).all() else None
