"""``compare``: the verdict in words, as table, plot and JSON, from the records of a sweep; bad names are one line."""

import json

import numpy as np
import pytest
from fake_runs import WEIGHTS

from bench.cli import main
from bench.config import Run, resolve
from bench.record_schema import Record, Score, now
from bench.run_dir import ExampleScores, RunDir

GRID = ("--sweep", "pair.toml", "--results", "results", "--reports", "reports")
SWEEP = """
name = "pair"
backbones = ["mini-bart"]
methods = ["lora", "adapter", "bitfit"]
suites = ["image-text"]
seeds = [1, 2, 3]
[set]
steps = 3
"""


def record(results, run: Run, effect: float, draw) -> None:
    folder = RunDir(results, run.id)
    folder.begin(run)
    folder.write(folder.weights, WEIGHTS)
    scores = {}
    for task in run.task_list:
        points = [float(x) for x in np.clip(draw.normal(60 + effect, 8, 60), 0, 100)]
        examples = {"metric": task.metric, "edition": task.metric_edition, "split": "test", "scores": points}
        folder.write_scores(task.name, ExampleScores(ids=[f"e{i}" for i in range(60)], **examples))
        mean = sum(points) / len(points)
        scores[task.name] = Score(status="done", split="test", metric=task.metric, metrics={task.metric: mean}, n=60)
    folder.finish(
        Record.model_validate({"id": run.id, "run": run, "finished": now(), "status": "done", "scores": scores})
    )


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.toml").write_text(SWEEP)
    draw = np.random.default_rng(1)
    for method, effect in (("lora", 0.0), ("adapter", 12.0), ("bitfit", 0.3)):
        for seed in (1, 2, 3):
            record(tmp_path / "results", resolve("mini-bart", method, "image-text", seed=seed, settings={"steps": 3}),
                   effect, draw)  # fmt: skip
    return tmp_path


def test_the_verdict_is_in_words_in_a_table_in_a_plot_and_in_json(sweep, capsys):
    assert main(["compare", "adapter", "lora", "bitfit", *GRID]) == 0
    said = capsys.readouterr().out
    assert "adapter beats lora by" in said and "lora and bitfit cannot be told apart" in said
    assert "P(first better)" in said
    folder = sweep / "reports" / "pair" / "comparisons" / "adapter-vs-lora-vs-bitfit"
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".md", ".tex", ".json", ".csv", ".svg", ".png", ".pdf"}
    assert main(["compare", "adapter", "lora", *GRID, "--format", "json"]) == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    first = verdicts[0]
    assert first["low"] < first["difference"] < first["high"] and first["decided"]
    assert first["probability_first_better"] > 0.99 and (first["seeds"], first["examples"]) == (3, 60)
    assert {each["column"] for each in verdicts} >= {"standardised", "average", "vqa", "gqa", "nlvr", "caption"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora"], "name a second method"),
        (["lora", "lora"], "name a second method"),
        (["lora", "adaptr"], "did you mean 'adapter'"),
        (["lora", "x\ny"], "unknown row of sweep pair"),
    ],
)
def test_names_that_are_no_two_rows_are_one_line(names, message, sweep, capsys):
    assert main(["compare", *names, *GRID]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
