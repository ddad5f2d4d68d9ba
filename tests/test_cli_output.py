"""What the command line prints: progress, encodings, closed pipes, escape sequences."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.cli.progress import Progress
from bench.config import Execution, resolve
from bench.events import RunEvent

GRID = ["--methods", "lora,full", "--suites", "image-text", "--set", "steps=3"]


def test_plain_progress_counts_and_estimates() -> None:
    stream = io.StringIO()
    with Progress(2, stream=stream) as progress:
        for run in ("a", "b"):
            progress(RunEvent("start", run))
            for step in range(1, 9):
                progress(RunEvent("step", run, "vqa", step, 8, 0.5))
            progress(RunEvent("score", run, "VQAv2 accuracy 50.00"))
            progress(RunEvent("end", run, "done"))
    lines = stream.getvalue().splitlines()
    assert sum("step " in line for line in lines) == 6
    assert "[2/2] end    b  done" in lines[-1]
    assert all("left" in line for line in lines if " step   b" in line)
    assert "VQAv2 accuracy 50.00" in stream.getvalue()


def test_a_run_that_is_tried_again_counts_once() -> None:
    progress = Progress(1, stream=io.StringIO())
    for message in ("oom", "done"):
        progress(RunEvent("start", "a"))
        progress(RunEvent("end", "a", message))
    assert progress.finished == 1


def test_an_interrupted_run_does_not_count_as_finished() -> None:
    progress = Progress(2, stream=io.StringIO())
    for message in ("interrupted", "done"):
        progress(RunEvent("start", message))
        progress(RunEvent("end", message, message))
    assert progress.finished == 1


def test_quiet_progress_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(1, stream=stream, quiet=True) as progress:
        progress(RunEvent("start", "a"))
        progress(RunEvent("end", "a", "done"))
    assert stream.getvalue() == ""


def piped(words: list[str], repo: Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(repo), **variables}
    words = [sys.executable, "-m", "bench", *words]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
def test_a_terminal_that_lacks_a_character_gets_another(encoding: str, repo: Path, tmp_path: Path) -> None:
    done = piped(["methods", "--explain", "vl-pet-large"], repo, tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "vl-pet-large" in done.stdout.decode(encoding)


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["tasks"], ["status"], ["nosuch"]])
def test_a_reader_that_goes_away_is_no_fault(words: list[str], repo: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait() == (2 if words == ["nosuch"] else 0)
    assert "Traceback" not in errors and "Exception ignored" not in errors and "BrokenPipe" not in errors


def test_watching_ends_with_its_reader(repo: Path, tmp_path: Path) -> None:
    """As in ``watch | head -1``: nothing changes any more, so nothing is written that would break the pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "watch", *GRID, "--every", "0.1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repo)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline() == b"2 runs: 2 missing\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["with colours", "NO_COLOR"])
def test_colours_are_for_terminals_that_want_them(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich._console", None)  # made of the environment once, and kept
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "200", **variables}.items():
        monkeypatch.setenv(name, value)
    for run in (resolve("mini-bart", name, "image-text", settings={"steps": 3}) for name in ("lora", "full")):
        fake_runs.run_one(run, Execution(), tmp_path)
    reading, writing = os.openpty()
    with open(writing, "w", encoding="utf-8", newline="") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert main(["watch", *GRID, "--results", str(tmp_path)]) == 0
        terminal.flush()
        shown = ""
        while "2 runs: 2 done" not in shown:  # a terminal hands its output on in pieces
            shown += os.read(reading, 1 << 16).decode(errors="replace")
    os.close(reading)
    assert bool(re.search("\x1b\\[[0-9;]*3[0-9]", shown)) == (not variables)


def test_progress_that_nobody_reads_stops_no_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress(1, stream=Closed()) as progress:
        progress(RunEvent("start", "a"))
        progress(RunEvent("end", "a", "done"))
    assert progress.finished == 1


def test_an_error_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "\x1b[31mred\r\u202e\udcff"]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ") and captured[:-1].isprintable()


def test_no_escape_sequence_without_a_terminal(repo: Path, tmp_path: Path) -> None:
    for words in (["status", *GRID], ["tasks"], ["sweep", *GRID, "--dry-run"]):
        done = piped(words, repo, tmp_path, FORCE_COLOR="1")
        assert done.returncode == 0 and b"\x1b" not in done.stdout + done.stderr
