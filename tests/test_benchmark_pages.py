"""The pages of figures are what their commands make of the figures that are kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import page, readme_tables, resolution, scaling


def test_pages_are_those_of_the_kept_figures() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(page.read_figures(), page.gpu_section(text)), "run python -m benchmarks.page --render"
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.page(page.read_figures())


def item(name: str, median: float, **extra: Any) -> dict[str, Any]:
    stats = {"median": median, "min": median, "max": median, "rounds": 7}
    return {"name": name, "group": "g", "stats": stats, "extra_info": extra}


def content(*benchmarks: dict[str, Any]) -> dict[str, Any]:
    machine = {"cpu": {"brand_raw": "A CPU", "count": 2}, "python_version": "3.11"}
    return {
        "machine_info": machine,
        "commit_info": {"id": "0123456789", "dirty": True},
        "datetime": "2026-01-02T00:00:00",
        "benchmarks": list(benchmarks),
    }


def test_figures_of_other_benchmarks_are_kept_and_bars_are_judged() -> None:
    low = {"figure": "speed", "value": 1.2, "at_least": 1.3, "at_most": None}
    high = {"figure": "time", "value": 0.8, "at_least": None, "at_most": 0.8}
    first = page.condensed(content(item("test_a", 1.23456), item("test_b", 2.0)))
    second = page.condensed(content(item("test_a", 3.0, bars=[low, high])))
    figures = page.merged(first, second)
    assert [(f["name"], f["median"]) for f in figures] == [("test_a", 3.0), ("test_b", 2.0)]
    text = page.page(figures, "\nthe table of a card\n")
    assert "A CPU, 2 cores, Python 3.11; 2026-01-02, commit 01234567 and uncommitted changes" in text
    assert "| a: g | speed | 1.2 | at least 1.3 | not met |" in text
    assert "| a: g | time | 0.8 | at most 0.8 | met |" in text
    assert page.gpu_section(text) == "\nthe table of a card\n"


def test_a_missing_figure_is_named() -> None:
    with pytest.raises(LookupError, match="test_loader"):
        scaling.figure([], "test_loader", lambda benchmark: benchmark["median"])


def test_runs_share_gpus_only_where_that_ends_sooner() -> None:
    cost = scaling.RunCost(updates=10, examples=0, images=0, step_seconds=80.0, exchanged=1e9, evaluation_seconds=0.0)
    assert scaling.makespan([cost] * 8, 8, link=1e12) == scaling.Makespan(80.0, 1)
    shared = scaling.makespan([cost], 8, link=1e12)
    assert shared.per_run == 8
    assert shared.seconds == pytest.approx(10 + 10 * 2 * 7 / 8 * 1e9 / 1e12)


def test_an_update_is_bound_by_products_and_by_memory() -> None:
    """A card with the rates of the measured one takes as long; with half of both, twice as long."""
    h200 = scaling.H200
    assert scaling.step_factor("lora", h200, "fp32") == pytest.approx(1.0)
    half = scaling.Gpu("half", h200.fp32 / 2, h200.bf16 / 2, h200.memory / 2, h200.link)
    assert scaling.step_factor("lora", half, "bf16") == pytest.approx(2.0)


def test_a_root_of_real_size_is_one_that_runs_can_read(tmp_path: Path) -> None:
    from bench import tasks
    from bench.data.features import FeatureStore
    from benchmarks.real_size_root import COLUMNS, ROWS, RootWriter

    RootWriter(tmp_path, scale=0.0005).write()
    for name in ("vqa", "gqa", "nlvr", "caption"):
        task = tasks.get(name)
        for split in task.splits:
            examples = task.read(tmp_path, split)
            assert len(examples) >= 0.0004 * task.official_sizes[split]
            shape = FeatureStore(tmp_path, "grid").load(examples[-1]).shape
            assert shape == ((2, ROWS, COLUMNS) if name == "nlvr" else (ROWS, COLUMNS))
    assert json.loads((tmp_path / "GQA" / "train.json").read_text())[0]["label"]


def test_tables_of_a_report_take_their_places_between_the_marks() -> None:
    report = "### title\n\n| a | b |\n| :-- | --: |\n| x | 1 |\n\ncaption\n\n<!-- runs\nmade by: c\n-->\n"
    table = readme_tables.tables(report)
    assert table == "title\n\n| a | b |\n| :-- | --: |\n| x | 1 |\n"
    page_with_marks = "before\n<!-- t:begin (command) -->\nold\n<!-- t:end -->\nafter"
    expected = f"before\n<!-- t:begin (command) -->\n{table}<!-- t:end -->\nafter"
    assert readme_tables.replaced(page_with_marks, "t", table) == expected
    with pytest.raises(ValueError, match="0 places called u"):
        readme_tables.replaced(page_with_marks, "u", table)
    for file, mark in readme_tables.PLACES.values():
        assert readme_tables.replaced(file.read_text(encoding="utf-8"), mark, "") != ""


def test_the_resolution_of_a_suite_is_that_of_planted_variances() -> None:
    """Seeds shift a method's score by 2 points; examples differ by 30 between methods, and by 10 between seeds."""
    rng = np.random.default_rng(0)
    methods, seeds, examples = 40, 3, 4000
    scores = rng.normal(0, 2, (methods, seeds, 1)) + rng.normal(0, 30, (methods, 1, examples))
    scores = scores + rng.normal(0, 10, (methods, seeds, examples))
    expected = [1.96 * np.sqrt(2 * 4 / n + 2 * (900 + 100 / n) / examples) for n in resolution.SEEDS]
    assert resolution.half_widths(scores) == pytest.approx(expected, rel=0.15)
