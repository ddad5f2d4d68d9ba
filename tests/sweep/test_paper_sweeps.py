"""The sweeps of the paper's tables against the specification: their rows, seeds and settings, and their plans."""

import csv
import json
from itertools import groupby
from pathlib import Path

import pytest

from bench.cli import main
from bench.config import Run
from bench.data.check import splits_of
from bench.planning.counts import ExampleCounts
from bench.planning.figures import learning_rates, schedule_figures
from bench.sweep import spec
from bench.sweep.expand import expand

README_SEEDS, LST_SEEDS = [42, 43, 9595], [9595, 9596, 9597]

#: sweep -> method -> learning rate, prompts, weight decay, epochs (methods.md 2.0 and tasks.md 12)
VL_PET = ("vl-pet-small", "vl-pet-middleX", "vl-pet-middleY", "vl-pet-large")
SETTINGS: dict[str, dict[str, tuple[float, bool, float, int]]] = {
    "paper-table2-bart": {
        "full": (1e-4, False, 0.01, 20),
        "hyperformer": (1e-3, False, 0.01, 20),
        **dict.fromkeys(("bitfit", "prompt", "compacter", "lora", "vl-adapter", *VL_PET), (1e-3, True, 0.01, 20)),
    },
    "paper-table2-t5": {
        "full": (1e-4, True, 0.01, 20),
        "bitfit": (3e-3, True, 0.01, 20),
        "prompt": (3e-3, True, 0.01, 20),
        "lst": (3e-3, True, 0.03, 20),
        **dict.fromkeys(("lora", "vl-adapter", *VL_PET), (3e-4, True, 0.01, 20)),
    },
    "paper-table9": dict.fromkeys(
        (
            "compacter",
            "vl-adapter",
            *(f"{frame}+{size}" for frame in ("compacter", "vl-adapter") for size in VL_PET),
        ),
        (1e-3, True, 0.01, 20),
    ),
    "paper-video-bart": {
        "full": (3e-5, True, 0.01, 7),
        "bitfit": (1e-3, True, 0.01, 7),
        **dict.fromkeys(("prompt", "compacter", "lora", "vl-adapter"), (3e-4, True, 0.01, 7)),
        **dict.fromkeys(VL_PET, (7e-4, True, 0.01, 20)),
    },
    "paper-video-t5": {
        "full": (3e-5, True, 0.01, 7),
        "bitfit": (1e-3, True, 0.01, 7),
        **dict.fromkeys(("prompt", "compacter", "lora", "vl-adapter"), (3e-4, True, 0.01, 7)),
    },
}
#: sweep -> batch sizes, updates of an epoch by task and of all tasks (tasks.md 11 and 16, data_sizes.md)
IMAGE_BART = ((500, 833, 166, 416), (1211, 1291, 521, 1363), 4386)
IMAGE_T5 = ((300, 500, 100, 250), (2018, 2151, 864, 2267), 7300)
EPOCHS = {
    "paper": IMAGE_BART,
    "paper-table2-bart": IMAGE_BART,
    "paper-table2-t5": IMAGE_T5,
    "paper-table9": IMAGE_BART,
    "paper-video-bart": ((50, 50, 50, 50), (2441, 684, 3465, 207), 6797),
    "paper-video-t5": ((30, 30, 30, 30), (4068, 1140, 5774, 345), 11_327),
}
#: epoch -> updates and warm-up of 20 epochs
TOTALS = {4386: (87_720, 8_772), 7300: (146_000, 14_600), 6797: (135_940, 13_594), 11_327: (226_540, 22_654)}


def runs_of(name: str) -> list[Run]:
    cells = expand(spec.load(name))
    assert all(cell.run for cell in cells), [cell.reason for cell in cells]
    return [cell.run for cell in cells if cell.run]


@pytest.mark.parametrize("name", [name for name in spec.names() if name.startswith("paper")])
def test_the_plan_of_a_paper_sweep_is_that_of_the_specification(name: str) -> None:
    batches, by_task, epoch = EPOCHS[name]
    counts = ExampleCounts({})
    for run in {run.recipe.epochs: run for run in runs_of(name)}.values():
        figures = schedule_figures(run, counts)
        assert tuple(task.batch_size for task in figures.tasks) == batches
        assert tuple(task.updates_per_epoch for task in figures.tasks) == by_task
        assert figures.updates_per_epoch == epoch
        updates, warmup = TOTALS[epoch] if run.recipe.epochs == 20 else (7 * epoch, 7 * epoch // 10)
        assert (figures.updates, figures.warmup_updates) == (updates, warmup)
        rates = learning_rates(run, updates)
        assert list(rates) == [0, warmup // 2, warmup, updates // 2, updates - 1]
        expected = [0, (warmup // 2) / warmup, 1, (updates - updates // 2) / (updates - warmup), 1 / (updates - warmup)]
        assert list(rates.values()) == pytest.approx([run.recipe.lr * factor for factor in expected])
        is_video = run.suite == "video-text"
        assert ("best" in figures.selection) is is_video
        assert figures.validation.startswith("after every epoch") and "validation" in splits_of(run, run.task_list[0])
        splits = [task.evaluated_on for task in figures.tasks]
        assert splits == (["validation"] * 4 if is_video else ["test", "validation", "test", "test"])
        assert run.recipe.weight_decay and not figures.incomplete


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_every_row_are_the_published_ones(name: str) -> None:
    runs = runs_of(name)
    recipes = {run.method: run.recipe for run in runs}
    assert {m: (r.lr, r.task_prefix, r.weight_decay, r.epochs) for m, r in recipes.items()} == SETTINGS[name]
    assert all(run.recipe.beams == 5 and run.recipe.warmup == 0.1 for run in runs)
    published = {"side_init": "fisher-v2"}  # where our default is another
    assert all(run.overrides == (published if run.method == "lst" else {}) for run in runs)
    seeds = {method: [run.seed for run in group] for method, group in groupby(runs, lambda run: run.method)}
    of_lst = {"full", "bitfit", "prompt", "lora", "vl-adapter", "lst"} if name == "paper-table2-t5" else set()
    assert seeds == {method: LST_SEEDS if method in of_lst else README_SEEDS for method in recipes}


@pytest.mark.parametrize(
    ("name", "table", "backbone"),
    [("paper-table2-bart", "2", "bart-base"), ("paper-table2-t5", "2", "t5-base"), ("paper-table9", "9", "bart-base")],
)
def test_rows_are_those_of_the_paper_in_its_order(repo: Path, name: str, table: str, backbone: str) -> None:
    with (repo / "results" / "paper" / "vl-pet.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["table"], row["backbone"]) == (table, backbone)]
    assert list(dict.fromkeys(row["method"] for row in rows)) == list(spec.load(name).methods)
    assert all(run.backbone.endswith(f"/{backbone}") for run in runs_of(name))


def test_seeds_of_a_method_are_its_own_unless_the_command_line_names_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seeds(*words: str) -> list[int]:
        place = ["--results", str(tmp_path), "--methods", "full,vl-pet-large", "--dry-run", "--format", "json"]
        assert main(["sweep", "paper-table2-t5", *place, *words]) == 0
        return [row["seed"] for row in json.loads(capsys.readouterr().out)]

    assert seeds() == [*LST_SEEDS, *README_SEEDS]
    assert seeds("--seeds", "7") == [7, 7]
