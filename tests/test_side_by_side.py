"""The same examples by several methods, as runs wrote them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.config import Execution, Run, resolve
from bench.run import run_one
from bench.run_dir import RunDir
from bench.side_by_side import EXAMPLES, side_by_side

SETTINGS = {"steps": 2, "batch_size": 4, "beams": 1}


def make(method: str, seed: int = 1) -> Run:
    return resolve("mini-bart", method, "image-text", seed=seed, task_names=("gqa", "nlvr"), settings=SETTINGS)


def cell(run: Run) -> Mapping[str, Any]:
    tasks = [task.name for task in run.task_list]
    facts = {"run_id": run.id, "label": run.method, "backbone": run.backbone, "suite": run.suite}
    return {**facts, "tasks": tasks}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("side")
    for method in ("lora", "bitfit"):
        assert run_one(make(method), Execution(device="cpu", data={"mini": tiny_root}), folder).status == "done"
    return folder


def test_every_text_and_score_is_that_of_the_run(results: Path, tiny_root: Path) -> None:
    plan = [cell(make("lora")), cell(make("lora", 2)), cell(make("bitfit")), cell(make("full"))]
    shown = side_by_side(results, plan, {"mini": tiny_root})
    assert [item["task"] for item in shown] == ["gqa", "nlvr"] and json.dumps(shown)
    for item in shown:
        assert item["labels"] == ["lora", "bitfit"] and 0 < len(item["examples"]) <= EXAMPLES
        assert len({example["id"] for example in item["examples"]}) == len(item["examples"])
        for at, method in enumerate(item["labels"]):
            folder = RunDir(results, make(method).id)
            rows = {row["id"]: row["prediction"] for row in folder.read_predictions(item["task"])}
            scores = folder.read_scores(item["task"])
            assert scores is not None
            by_id = dict(zip(scores.ids, scores.scores, strict=True))
            for example in item["examples"]:
                assert example["predictions"][at] == rows[example["id"]]
                assert example["scores"][at] == by_id[example["id"]]
        assert all(example["source"] and example["visual"] for example in item["examples"])
        pictures = 2 if item["task"] == "nlvr" else 1
        assert all(len(example["shows"]) == len(example["pictures"]) == pictures for example in item["examples"])
    assert shown == side_by_side(results, plan, {"mini": tiny_root})


def test_without_data_or_with_one_method_alone_there_is_less_to_show(results: Path, tmp_path: Path) -> None:
    plan = [cell(make("lora")), cell(make("bitfit"))]
    shown = side_by_side(results, plan, {"mini": tmp_path / "nowhere"})
    assert shown and all(example["source"] is None for item in shown for example in item["examples"])
    assert side_by_side(results, plan[:1], {}) == []
    broken = RunDir(results, make("bitfit").id).predictions("gqa")
    content = broken.read_bytes()
    try:
        broken.write_bytes(content[: len(content) // 2])
        assert [item["task"] for item in side_by_side(results, plan, {})] == ["nlvr"]
    finally:
        broken.write_bytes(content)
