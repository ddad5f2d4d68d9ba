"""What a plan says of a training: counts, memory, disk and hours."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import tasks
from bench.cli import main
from bench.cli.figures import show_figures
from bench.cli.pricing import summary
from bench.config import Run, resolve
from bench.planning import throughput
from bench.planning.counts import ExampleCounts
from bench.planning.disk import disk
from bench.planning.figures import schedule_figures
from bench.planning.memory import training_memory
from bench.planning.throughput import estimate


def test_a_plan_of_a_paper_sweep_is_never_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "paper-table2-bart", "--results", str(tmp_path), "--methods", "compacter"]
    assert main([*words, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    ((line,),) = [plan["methods"] for plan in content["figures"]]
    assert line["seeds"] == [42, 43, 9595] and line["trainable"] == 3_870_240 and line["prompts"]
    memory = line["memory"]
    parts = ("weights", "gradients", "optimizer", "activations")
    assert memory["total"] == sum(memory[part] for part in parts) and memory["gradients"] == 4 * line["trainable"]
    assert 5 < line["hours"] < 9 and "adapter, vl-adapter" in line["hours_from"]
    assert line["disk"]["weights"] == 4 * line["trainable"]
    assert [row["state"] for row in content["price"]] == ["blocked"] * 3
    show_figures(content["figures"])
    text = capsys.readouterr().out
    for part in ("4,386 per epoch x 20 epochs, 87,720 in all", "first 8,772", "lr@8772", "karpathy_test", "3 870 240"):
        assert part in text
    assert "hours of compacter: table of throughputs" in text and "of one NVIDIA H200" in "\n".join(
        summary(content["price"])
    )
    assert content["price"][0]["seconds"] == pytest.approx(3600 * line["hours"])


def test_a_given_root_is_counted_and_what_it_lacks_is_said(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "official"
    root.mkdir()
    for item in tiny_root.iterdir():
        if item.name != "mini.json":  # without it the root passes for a real one
            (root / item.name).symlink_to(item)
    run = resolve("facebook/bart-base", "lora", "image-text")
    figures = schedule_figures(run, ExampleCounts({"official": root}))
    assert figures.updates_per_epoch == 4 and figures.updates == 80
    assert figures.incomplete[0].endswith("of 605,102 examples (karpathy_train)")
    (root / "vqa").unlink()
    figures = schedule_figures(run, ExampleCounts({"official": root}))
    assert (figures.tasks[0].train.examples, figures.tasks[0].updates_per_epoch) == (605_102, 1211)
    assert "vqa train: unreadable" in figures.incomplete[0]
    synthetic = resolve("mini-bart", "lora", "image-text")
    figures = schedule_figures(synthetic, ExampleCounts({"mini": tiny_root}))
    assert not figures.incomplete and figures.updates == synthetic.recipe.steps


@pytest.fixture
def like_measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Run]:
    """Runs whose only task has batches of the shape with which the table of throughputs was measured."""
    machine = throughput.table()["machine"]
    task = replace(tasks.get("gqa"), source_limit=machine["text"], target_limit=machine["target"], share=(1, 1))
    monkeypatch.setattr(Run, "task_list", [task])
    return lambda backbone, method: resolve(backbone, method, "image-text", task_names=["gqa"])


def measured(method: str) -> dict[str, Any]:
    (row,) = [r for r in throughput.table()["rows"] if (r["method"], r["precision"]) == (method, "fp32")]
    return row


def test_memory_from_shapes_is_that_which_was_measured(like_measured: Callable[[str, str], Run]) -> None:
    memory = training_memory(like_measured("bart-base", "vl-adapter"), throughput.table()["machine"]["features"])
    above = (memory["total"] - memory["weights"]) / 2**20
    assert 0.85 < measured("vl-adapter")["peak_mib_above_model"] / above < 1.0


def test_hours_are_those_of_the_table_for_what_the_table_has(like_measured: Callable[[str, str], Run]) -> None:
    small = estimate(like_measured("bart-base", "lora"), {"gqa": 10_000})
    assert small.seconds == pytest.approx(10_000 / measured("lora")["examples_per_second"])
    assert "mean" not in small.source
    large = estimate(like_measured("t5-base", "lora"), {"gqa": 10_000})
    assert 1.5 < large.seconds / small.seconds < 2.5


def test_the_best_epoch_costs_a_second_copy_of_the_weights() -> None:
    last, best = (resolve("bart-base", "lora", suite) for suite in ("image-text", "video-text"))
    assert (disk(last, 10, 0)["weights"], disk(best, 10, 0)["weights"]) == (40, 80)
    assert disk(last, 10, 7)["total"] < disk(last, 10, 8)["total"] and disk(last, 10, 0)["checkpoint"] == 120
