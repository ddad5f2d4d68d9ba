"""What a method computes from training data before it is attached: which examples, once per content, recorded."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import methods
from bench import backbones, preparation
from bench.config import Execution, Run, resolve
from bench.data.batches import TokenizedSplit
from bench.kept_weights import load
from bench.preparation import cache_file, examples, read
from bench.run import run_one
from bench.run_data import read_split
from bench.run_dir import RunDir

SETTINGS: dict[str, Any] = {"steps": 2, "batch_size": 4, "beams": 1, "n_boxes": 9, "checkpoint_every": 1}


def make(method: str = "lst", tasks: tuple[str, ...] = ("gqa",), seed: int = 1, **settings: Any) -> Run:
    start = {"side_init": "fisher-v2", "fisher_samples": 5} if method == "lst" and "side_init" not in settings else {}
    return resolve(
        "mini-bart", method, "image-text", task_names=tasks, seed=seed, settings={**SETTINGS, **start, **settings}
    )


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, torch.Tensor]]:
    """Every result that is computed and not read, with a cache folder of the test's own."""
    results: list[dict[str, torch.Tensor]] = []
    compute = preparation.prepare
    monkeypatch.setattr(preparation, "prepare", lambda *given: results.append(compute(*given)) or results[-1])
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    return results


@pytest.fixture
def run(tiny_root: Path, tmp_path: Path):
    execution = Execution(device="cpu", data={"mini": tiny_root})
    return lambda run, results="results": run_one(run, execution, tmp_path / results)


def weights(tmp_path: Path, run: Run, results: str = "results") -> dict[str, torch.Tensor]:
    return load_file(RunDir(tmp_path / results, run.id).weights)


def test_it_is_computed_once_for_what_it_depends_on_and_gives_the_same_run(run, computed, tmp_path: Path) -> None:
    record = run(make())
    assert record.status == "done", record.error
    seconds = record.time["preparation_seconds"]
    assert seconds > 0 and len(computed) == 1
    again = run(make(), "again")
    assert again.time["preparation_seconds"] == seconds  # what it cost when it was computed
    torch.testing.assert_close(weights(tmp_path, make(), "again"), weights(tmp_path, make()), atol=0, rtol=0)
    run(make(lr=1e-4, steps=3, optimizer="adamw-official"))
    assert len(computed) == 1
    (file,) = (tmp_path / "cache" / "preparations").iterdir()
    file.write_bytes(file.read_bytes()[:-9])  # a torn file is no result
    assert read(file) is None
    run(make(), "torn")
    torch.testing.assert_close(computed[1], computed[0], atol=0, rtol=0)
    torch.testing.assert_close(weights(tmp_path, make(), "torn"), weights(tmp_path, make()), atol=0, rtol=0)


OTHER = [
    *({"seed": 2}, {"limit": 4}, {"task_prefix": False}, {"visual": "zero"}, {"tasks": ("vqa", "gqa")}),
    *({"fisher_samples": 4}, {"reduction": 2}),
]
SAME = [{"lr": 1e-4}, {"steps": 3}, {"optimizer": "adamw-official"}, {"batch_size": 2}, {"projector": "frozen"}]


def test_the_file_is_named_by_what_the_result_depends_on() -> None:
    content = {part: {"file": "12"} for part in ("data", "features", "backbone", "tokenizer", "method")}

    def file(changed: dict[str, Any], prints: dict[str, dict[str, str]] = content) -> Path | None:
        wanted = make(**changed)
        spec = methods.get("lst", **wanted.overrides).spec(backbones.shape("mini-bart"))
        return cache_file(wanted, spec, prints)

    names = [file({}), *(file(changed) for changed in OTHER)]
    names += [file({}, content | {part: {"file": "34"}}) for part in ("data", "features", "backbone", "tokenizer")]
    assert len(set(names)) == len(names) and None not in names
    assert {file(changed) for changed in SAME} == {file({})}
    assert file({}, {part: content[part] for part in ("data", "features", "tokenizer")}) is None


def test_its_start_is_another_than_that_by_magnitude_and_kept_weights_need_no_data(
    run, computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make())
    run(make(side_init="magnitude"))
    assert len(computed) == 1
    a, b = weights(tmp_path, make()), weights(tmp_path, make(side_init="magnitude"))
    assert a.keys() == b.keys()
    name = next(name for name in a if name.endswith("q_proj.weight"))
    assert (a[name] - b[name]).norm() > 0.3 * a[name].norm()
    monkeypatch.setattr(preparation, "prepare", None)
    model = load(RunDir(tmp_path / "results", make().id).path, feat_dim=96)
    assert torch.equal(model.get_parameter(name), a[name])


def split(run: Run, root: Path) -> dict[str, TokenizedSplit]:
    return {task.name: read_split(run, task, "train", root) for task in run.task_list}


def test_examples_come_one_by_one_from_every_task_by_its_size(tiny_root: Path) -> None:
    wanted = make(tasks=("vqa", "gqa", "nlvr", "caption"))
    sets = split(wanted, tiny_root)
    every = list(examples(wanted, sets, 10**6))
    assert Counter(batch.task for batch in every) == {name: len(data) for name, data in sets.items()}
    assert all(len(batch.ids) == 1 for batch in every)
    assert len({(batch.task, *batch.ids) for batch in every}) == len(every)
    first = list(examples(wanted, sets, 7))
    assert [(b.task, b.ids) for b in first] == [(b.task, b.ids) for b in every[:7]]
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(first, every, strict=False))
    blind = next(examples(make(visual="zero"), sets, 1))
    assert not blind.vis_feats.any() and every[0].vis_feats.any()


def test_numbers_that_a_method_reports_are_recorded(run) -> None:
    record = run(make("grasp-vl"))
    assert 0 < record.diagnostics["orthogonality error"] < 1e-5
    assert "preparation_seconds" not in record.time
