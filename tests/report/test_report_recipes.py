"""Recipes in reports: runs of `paper` and of `fair` never share a row, and the two differ by what the file says."""

import json

import pandas as pd
import report_fakes as fakes

from bench.config import resolve
from bench.recipe_files import RECIPES
from bench.report.results import results_tables
from bench.report.run_entries import join
from bench.toml_files import read_toml

CHANGES = {key: value for key, value in read_toml(RECIPES / "fair.toml", "recipe").items() if key != "base"}


def test_fair_is_paper_with_the_fields_of_its_file_changed_for_every_method() -> None:
    for method in ("full", "hyperformer", "lst", "lora"):
        for backbone, suite in (("t5-base", "video-text"), ("bart-base", "image-text")):
            paper, fair = (resolve(backbone, method, suite, recipe=name) for name in ("paper", "fair"))
            assert fair.recipe == paper.recipe.model_copy(update={"name": "fair", **CHANGES})
            assert (paper.data, fair.data) == ("official", "official")
            assert fair.id != paper.id


def test_runs_of_two_recipes_share_no_row() -> None:
    frames, plans = [], []
    for seeds, recipe in (((1, 2), "paper"), ((3,), "fair")):
        frame, plan = fakes.sweep(suites=["image-text"], seeds=seeds)
        fields = resolve("bart-base", "lora", "image-text", recipe=recipe).recipe.model_dump(by_alias=True)
        frames.append(frame.assign(settings=json.dumps(fields)))
        plans += plan
    [table] = results_tables(join(pd.concat(frames), plans))
    seeds_of_rows = {row.label: {run_id.rpartition("/")[2] for run_id in row.run_ids} for row in table.rows}
    of_lora = {label: seeds for label, seeds in seeds_of_rows.items() if label.startswith("lora")}
    assert sorted(of_lora.values(), key=len) == [{"3"}, {"1", "2"}]
    assert all("decay=" in label and "beam_length=" in label for label in of_lora)
