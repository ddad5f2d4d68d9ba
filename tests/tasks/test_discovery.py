"""A new task is one new module, or an entry point of another package."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import tasks

MODULE = """
import dataclasses
from bench.tasks.gqa import TASK as GQA
TASK = dataclasses.replace(GQA, name="okvqa", label="OK-VQA", order=9)
"""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tasks._registry.cache_clear()
    yield
    tasks._registry.cache_clear()
    sys.modules.pop("bench.tasks.okvqa", None)


def test_a_new_module_is_a_new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "okvqa.py").write_text(MODULE)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    assert tasks.names("image-text") == ["vqa", "gqa", "nlvr", "caption", "okvqa"]
    assert tasks.get("okvqa").label == "OK-VQA"


def test_an_entry_point_is_a_new_task_in_a_suite_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(tasks.get("gqa"), name="audio", suite="audio-text", order=99)
    tasks._registry.cache_clear()
    asked = []

    def points(group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return [SimpleNamespace(load=lambda: other)]

    monkeypatch.setattr(tasks, "entry_points", points)
    assert tasks.suites() == ["image-text", "video-text", "audio-text"]
    assert tasks.suite("audio-text") == [other]
    assert asked == ["vlpet_bench.tasks"]
