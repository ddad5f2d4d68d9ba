"""Tables in files are compared with the records, cell by cell, and nothing that a file says is executed."""

import re
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.config import Execution, resolve

GRID = ["--methods", "lora,full", "--suites", "image-text", "--set", "steps=3", "--name", "mine"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a report without plots, made in the folder in which the user is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report._drawn", lambda *rest: [])
    for method in ("lora", "full"):
        for seed in (1, 2):
            fake_runs.run_one(
                resolve("mini-bart", method, "image-text", seed=seed, settings={"steps": 3}),
                Execution(),
                tmp_path / "results",
            )
    assert main(["report", *GRID, "--seeds", "1,2", "--style", "acl"]) == 0
    return tmp_path / "reports" / "mine"


@pytest.mark.parametrize("suffix", ["tex", "md"])
def test_what_was_changed_by_hand_is_named(suffix: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = files / f"results.{suffix}"
    assert main(["verify", str(file)]) == 0
    assert "all as the records give them" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if re.match(r"(\| )?lora [&|]", line)]
    number = re.findall(r"\d+\.\d+", line)[1]
    file.write_text(text.replace(line, line.replace(number, "99.99", 1)), encoding="utf-8")
    assert main(["verify", str(file)]) == 1
    out = capsys.readouterr().out
    assert "1 differences" in out and "lora" in out and "99.99" in out and number in out
    bold = line.replace(number, rf"\textbf{{{number}}}" if suffix == "tex" else f"**{number}**", 1)
    file.write_text(text.replace(line, bold), encoding="utf-8")
    assert main(["verify", str(file)]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "no table", "has no table that says what made it"),
        (lambda text: re.sub("made by: .*", "made by: rm -rf .", text), "which is no command of report"),
        (lambda text: re.sub("made by: .*", "made by: python -m bench data mini x", text), "which is no command of"),
        (lambda text: text.replace("lora,full", "./evil.py,full"), "was made with the methods of ./evil.py"),
        (lambda text: text.replace("lora,full", "lroa,full"), "'lora'"),
        (lambda text: text.replace("--suites", "--siutes"), "--suites"),
    ],
)
def test_a_file_that_tells_nothing_or_too_much_is_bad_input(
    change: object, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("evil.py").write_text("raise SystemExit('it was executed')", encoding="utf-8")
    file = files / "results.tex"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")  # type: ignore[operator]
    assert main(["verify", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_read_is_bad_input(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([str(files)], [str(files / "none.tex")], [str(files / "results.tex"), "--results", "nowhere"]):
        assert main(["verify", *words]) == 2
        assert words[-1] in capsys.readouterr().err
