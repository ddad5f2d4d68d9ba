"""The data of runs: tokenised splits, tokenisers and feature stores, which runs of one process share."""

from functools import lru_cache
from pathlib import Path

from bench import backbones, suites
from bench.config import Run
from bench.data import example_tables, held_out
from bench.data.batches import TokenizedSplit
from bench.data.features import FeatureStore, feat_dim
from bench.tasks import Task
from bench.tasks.tolerance import counting


def read_split(run: Run, task: Task, split: str, root: Path) -> TokenizedSplit:
    """Return a tokenised split, cut to ``recipe.limit`` examples where there is a limit.

    A run that tunes gets nothing but what tuning may look at, whichever split is asked for.
    """
    recipe = run.recipe
    tuning = recipe.evaluate == "tuning"
    if tuning and split != held_out.TRAIN:
        split = held_out.TUNING
    texts = (recipe.task_prefix, recipe.truncation)
    return tokenized_split(root, task, split, run.backbone, *texts, recipe.n_frames, recipe.limit, tuning)


@lru_cache(maxsize=64)
def tokenized_split(
    root: Path,
    task: Task,
    split: str,
    backbone: str,
    prefix: bool,
    truncation: str,
    n_frames: int,
    limit: int | None,
    tuning: bool,
) -> TokenizedSplit:
    """Return a tokenised split, the same one for the same arguments."""
    with counting() as tolerated:
        examples = example_tables.read(task, root, split, tuning=tuning)[:limit]
    store = feature_store(root, task.suite, n_frames)
    text = tokenizer(backbone)
    return TokenizedSplit(task, examples, text, store, prefix=prefix, truncation=truncation, tolerated=tolerated)


@lru_cache
def feature_store(root: Path, suite: str, n_frames: int) -> FeatureStore:
    """Return the features of a suite below a data root, frames brought to ``n_frames`` rows."""
    return FeatureStore(root, suites.get(suite).features.kind, n_frames=n_frames)


tokenizer = lru_cache(backbones.tokenizer)
feature_columns = lru_cache(feat_dim)
