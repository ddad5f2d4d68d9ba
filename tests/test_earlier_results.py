"""What an earlier version left behind stays what it was: ids of all built-in sweeps, and a results folder.

``fixtures/`` was written at commit aa2bbbd: ``ids.json`` has the run ids of every built-in sweep and ablation in order,
``old_results`` two finished runs and one that failed, ``old_results.csv`` their frame.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench import backbones, suites
from bench.config import Run
from bench.recipe_files import recipe_tables
from bench.records import load_frame
from bench.sweep.expand import expand
from bench.sweep.spec import ABLATIONS, load, names

FIXTURES = Path(__file__).parent / "fixtures"


#: The recipe `paper` was given the optimiser, the rounding and the ranking of beams of the official runs, so its runs
#: are other ones than before: these fields set back to what they were give the ids of the fixture.
CHANGED = {"paper": {"optimizer": "adamw", "precision": "fp32", "beam_length": "library"}}

#: Seeds that a sweep did not have before.
ADDED_SEEDS = {"mini-check": (3,)}


@pytest.fixture
def first_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature world is another one than before, so its runs are other ones: its version set back."""
    editions = {suite: suites.get(suite) for suite in suites.built_in()}
    first = {n: replace(s, miniature=replace(s.miniature, version=1)) for n, s in editions.items() if s.miniature}
    get = suites.get
    monkeypatch.setattr(suites, "get", lambda name: first.get(name) or get(name))


#: What the miniature recipe has now, and what it had: updates (of images and of videos), and warm-up.
EARLIER = {"steps": {1000: 700, 500: 360}, "warmup": {0.2: 0.1}}


def before_tuning(run: Run) -> Run:
    """The run with the updates, warm-up and rates that the miniature suite had before rates were searched for."""
    if run.recipe.name != "mini":
        return run
    values = run.recipe.model_dump()
    update = {field: earlier.get(values[field], values[field]) for field, earlier in EARLIER.items()}
    tuned = recipe_tables("mini").get(f"method.{run.method}", {})
    untuned = {"lr": 4e-4 if run.method == "full" else 6e-3, "projector_lr": 6e-3}
    update |= {rate: untuned[rate] for rate in tuned if values[rate] == tuned[rate]}
    return run.model_copy(update={"recipe": run.recipe.model_copy(update=update)})


@pytest.mark.usefixtures("first_world")
def test_ids_of_all_built_in_sweeps_are_those_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = backbones.shape
    monkeypatch.setattr(backbones, "shape", lambda name: shape(name.removeprefix("facebook/")))  # no hub here
    wanted = json.loads((FIXTURES / "ids.json").read_text())
    for name, ids in wanted.items():
        before = CHANGED.get(name, {})
        added = ADDED_SEEDS.get(name, ())
        cells = [cell for cell in expand(load(name)) if cell.run is None or cell.run.seed not in added]
        for cell, wanted_id in zip(cells, ids, strict=True):
            if cell.run is None:  # a cell without a run has an id as well
                assert cell.run_id == wanted_id
            elif not before:
                assert before_tuning(cell.run).id == wanted_id
            else:
                recipe = cell.run.recipe.model_copy(update=before)
                assert cell.run.model_copy(update={"recipe": recipe}).id == wanted_id != cell.run_id
    assert set(wanted) <= {*names(), *names(ABLATIONS)}


def test_an_earlier_results_folder_gives_the_same_frame() -> None:
    wanted = pd.read_csv(FIXTURES / "old_results.csv", keep_default_na=False, na_values=[""])  # "nan" is a cause
    frame = load_frame(FIXTURES / "old_results")[list(wanted.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, wanted, check_dtype=False)


@pytest.mark.usefixtures("first_world")
def test_an_earlier_results_folder_counts_as_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli import main

    shutil.copytree(FIXTURES / "old_results", tmp_path / "results")
    flags = ["--methods", "ia3", "--backbone", "mini-t5"]
    flags += [word for value in ("steps=4", "warmup=0.1", "limit=20") for word in ("--set", value)]
    folders = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    assert main(["status", "default", *flags, *folders[:2], "--format", "json"]) == 0
    states = {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)["runs"]}
    assert set(states.values()) == {"done"}
    assert main(["report", "default", *flags, *folders]) == 0
    assert "247.50" in next((tmp_path / "reports").glob("*/results.md")).read_text()
