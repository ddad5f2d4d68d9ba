"""The check on arrival: what it says of sound and faulty data, backbones and machines, and that it leaves nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import published_root
import pytest

from bench import tasks
from bench.checkpoint import Checkpoint
from bench.cli import main
from bench.tasks import Example

MINI = "bench/mini/backbones/mini-bart"


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the checks by name."""
    code = main(["doctor", "--real", "--format", "json", *words])
    rows = json.loads(capsys.readouterr().out)
    return code, {row["check"]: row for row in rows}


def test_everything_that_a_run_needs_is_tried(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, checks = doctor(capsys, "--data", f"mini={tiny_root}", "--backbone", "mini-bart", "--methods", "lora")
    assert code == 0 and {row["state"] for row in checks.values()} == {"ok"}
    assert list(checks) == [
        "weights and tokeniser",
        *(f"data of {task}" for task in tasks.names("image-text")),
        "10 updates of lora",
        "beam search and metric",
        "resumed checkpoint",
        "memory of lora",
        "time of lora",
    ]
    assert (
        "bit for bit" in checks["resumed checkpoint"]["detail"]
        and "CIDEr" in checks["beam search and metric"]["detail"]
    )
    assert "at batch size 32" in checks["memory of lora"]["detail"]
    assert "a run of 1,000 updates takes" in checks["time of lora"]["detail"]
    assert not list(tmp_path.iterdir())


def test_what_stands_in_the_way_is_not_tried(
    repo: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, root = tmp_path / "bart", tmp_path / "root"
    backbone.mkdir()
    for file in (repo / MINI).iterdir():
        if not file.name.startswith("tokenizer"):
            (backbone / file.name).symlink_to(file)
    root.mkdir()
    for item in tiny_root.iterdir():
        if item.name != "nlvr":
            (root / item.name).symlink_to(item)
    code, checks = doctor(capsys, "--data", f"mini={root}", "--backbone", str(backbone), "--methods", "lora")
    assert code == 1
    assert {name for name, row in checks.items() if row["state"] == "fault"} == {
        "weights and tokeniser",
        "data of nlvr",
    }
    assert "no tokeniser" in checks["weights and tokeniser"]["detail"]
    assert "train.json" in checks["data of nlvr"]["detail"]
    assert {row["state"] for name, row in checks.items() if "updates" in name or "resumed" in name} == {"not tried"}


def test_a_training_that_cannot_be_resumed_is_a_fault(
    tiny_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Checkpoint.restore

    def forgetting(self: Checkpoint, model: Any, optimiser: Any, steps: int) -> Any:
        before = optimiser.state_dict()
        progress = restore(self, model, optimiser, steps)
        optimiser.load_state_dict(before)  # the moments are lost
        return progress

    monkeypatch.setattr(Checkpoint, "restore", forgetting)
    code, checks = doctor(capsys, "--data", f"mini={tiny_root}", "--backbone", "mini-bart", "--methods", "lora")
    assert code == 1 and {n for n, row in checks.items() if row["state"] == "fault"} == {"resumed checkpoint"}
    assert checks["resumed checkpoint"]["mend"]


def test_published_records_pass_only_as_a_part_of_the_data(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    published_root.write(shared / "real", root)
    np.savez(tmp_path / "frames.npz", features=np.random.default_rng(0).normal(size=(40, 512)).astype(np.float16))
    for name in tasks.names("video-text"):
        for split in ("train", "validation"):
            give_features(root, tasks.get(name).read(root, split), tmp_path / "frames.npz")
    words = ["--data", f"official={root}", "--backbone", "mini-bart", "--suite", "video-text", "--methods", "lora"]
    code, checks = doctor(capsys, *words)
    assert code == 1 and checks["data of tvqa"]["detail"].startswith("incomplete: 20 of 122,039 train examples")
    assert {row["state"] for name, row in checks.items() if not name.startswith("data")} == {"ok"}
    monkeypatch.setattr("bench.arrival.Arrival._updates", lambda *_: ("tried above", None))
    code, checks = doctor(capsys, *words, "--partial")
    assert code == 0 and "200 validation examples; 512 feature columns" in checks["data of tvqa"]["detail"]


def give_features(root: Path, examples: list[Example], file: Path) -> None:
    """Let all feature files of some examples be the same one."""
    for name in {name for example in examples for name in example.visual}:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.symlink_to(file)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--real"], "--data official=PATH and --backbone"),
        (["--real", "--backbone", "mini-bart", "--data", "official=/nowhere"], "no such folder"),
        (["--real", "--backbone", "mini-bart", "--data", "official=.", "--methods", "lroa"], "lora"),
        (["--backbone", "mini-bart"], "--real"),
    ],
)
def test_bad_input_is_one_line(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert part in capsys.readouterr().err
