"""A new task or suite is one new module, or an entry point of another package."""

import dataclasses
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench import plugins, suites, tasks
from bench.config import resolve
from bench.data.roots import locate, why_blocked
from bench.errors import UsageError
from bench.tasks.gqa import TASK as GQA

MODULE = """
import dataclasses
from bench.tasks.gqa import TASK as GQA
TASK = dataclasses.replace(GQA, name="okvqa", label="OK-VQA", order=9)
"""
AUDIO_TASK = dataclasses.replace(GQA, name="audio", suite="audio-text", order=-1)
AUDIO_SUITE = suites.Suite(
    "audio-text", "Audio-text", ("audio",), ("audio/*.json",), suites.Features("frames", 128), version=2
)
GQA_AGAIN = dataclasses.replace(GQA, label="ours")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    forget()
    yield
    forget()
    sys.modules.pop("bench.tasks.okvqa", None)


def forget() -> None:
    tasks._registry.cache_clear()
    suites._registry.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Let the named groups have an entry point each, whose value is an object of this module."""
    points = {f"vlpet_bench.{group}": EntryPoint("x", value, f"vlpet_bench.{group}") for group, value in values.items()}
    monkeypatch.setattr(plugins, "entry_points", lambda group: [points[group]] if group in points else [])
    monkeypatch.setitem(sys.modules, "a_plugin", sys.modules[__name__])


def test_a_new_module_is_a_new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "okvqa.py").write_text(MODULE)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    assert tasks.names("image-text") == ["vqa", "gqa", "nlvr", "caption", "okvqa"]
    assert tasks.get("okvqa").label == "OK-VQA"
    assert suites.get("image-text").official_tasks == ("vqa", "gqa", "nlvr", "caption")


def test_entry_points_are_a_new_task_in_a_new_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tasks="a_plugin:AUDIO_TASK", suites="a_plugin:AUDIO_SUITE")
    assert suites.names() == [*suites.built_in(), "audio-text"]
    assert tasks.names()[-1] == "audio"  # behind the built-in tasks, whatever its order
    assert suites.get("audio-text").tasks == [AUDIO_TASK]
    assert "audio" not in suites.official_tasks()
    with pytest.raises(UsageError, match="suite 'audio-text' has no miniature data"):
        locate("mini", "audio-text", {})
    assert "no miniature data" in why_blocked("mini", "audio-text", {})
    run = resolve("mini-bart", "lora", "audio-text", data="mine")
    assert run.tasks == ("audio",)
    assert run.content()["suite_version"] == 2


@pytest.mark.parametrize(
    ("installed", "providers"),
    [
        ({"tasks": "a_plugin:GQA_AGAIN"}, "module bench.tasks.gqa.*entry point 'a_plugin:GQA_AGAIN'"),
        ({"suites": "a_plugin:VIDEO_AGAIN"}, "module bench.suites.video_text.*entry point 'a_plugin:VIDEO_AGAIN'"),
    ],
)
def test_a_name_that_stands_twice_is_an_error_that_names_both_providers(
    installed: dict[str, str], providers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, **installed)
    with pytest.raises(UsageError, match=providers):
        tasks.names()
        suites.names()


@pytest.mark.parametrize("value", ["no_such_module:TASK", "a_plugin:NOTHING", "a_plugin:MODULE"])
def test_a_broken_plug_in_is_named_and_left_out(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tasks=value)
    with pytest.warns(UserWarning, match=f"entry point '{value}' is left out"):
        assert tasks.names() == suites.official_tasks()


VIDEO_AGAIN = dataclasses.replace(AUDIO_SUITE, name="video-text")
