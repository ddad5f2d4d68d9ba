"""The notebooks run from their first cell to the last, on records of a sweep."""

import json
from pathlib import Path
from typing import Any

import fake_runs
import matplotlib
import matplotlib.figure
import pytest

import bench
from bench.config import Execution, resolve
from bench.run_dir import RunDir

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "reports" / "notebooks").glob("*.ipynb"))
METHODS = {"full": 90.0, "projector-only": 40.0, "lora": 60.0, "vl-pet-large": 80.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of four methods, whose scores differ by method and seed."""
    folder = tmp_path_factory.mktemp("notebooks") / "results"
    for method, level in METHODS.items():
        for seed in (1, 2, 3):
            run = resolve("mini-bart", method, "image-text", seed=seed)
            record = fake_runs.run_one(run, Execution(), folder)
            scores = {
                name: score.model_copy(update={"metrics": {score.metric: level + seed + len(name)}})
                for name, score in record.scores.items()
            }
            facts = {"scores": scores, "parameters": {"percent": level / 20, "trainable": 10.0, "total": 100.0}}
            at = RunDir(folder, run.id)
            at.record.unlink()
            at.finish(record.model_copy(update={**facts, "time": {"step_seconds": 0.1, "train_seconds": 9.0}}))
            for step in (1, 2, 3):
                at.append(at.curve, {"step": step, "loss": 1 / step, "lr": 0.1, "seconds": step})
    return folder


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(notebook: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    place = results.parent / "reports" / "notebooks"
    place.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(place)
    content = json.loads(notebook.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
    assert not names["results"].empty


def test_tables_and_plots_are_functions_of_a_frame(results: Path) -> None:
    frame = bench.load_results(results)
    table = bench.table(frame)
    assert "<table" in table._repr_html_() and "85.00" in repr(table) and r"\toprule" in table.to_latex("acl")
    assert {"tradeoff", "task_bars", "training_curves"} <= set(dir(bench.plot))
    curves = bench.load_curves(frame, results)
    for name in dir(bench.plot):
        try:
            figure = getattr(bench.plot, name)(frame, curves)
        except ValueError as fault:  # of ablations and searches, which these results are none of
            assert "nothing to draw" in str(fault)
        else:
            assert isinstance(figure, matplotlib.figure.Figure)
    with pytest.raises(ValueError, match=r"no table 'reslts'; they give .*results"):
        bench.table(frame, "reslts")
    with pytest.raises(AttributeError, match=r"there is no plot 'tradeof'; there are .*tradeoff"):
        bench.plot.tradeof
