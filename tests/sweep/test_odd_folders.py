"""One odd folder costs that folder: every verb names it, or passes over what is not its own, and goes on."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.config import Execution, resolve
from bench.records import load_results
from bench.run_dir import RunDir
from bench.states import NEVER
from bench.sweep import attempts
from bench.sweep.execute import begin_anew, work_through
from bench.sweep.run_state import state

RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2, 3)]
GRID = ["--methods", "lora", "--suites", "image-text", "--seeds", "1,2,3"]
ODD = RUNS[0]
DEEP = "[" * 100_000


def replaced_by_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "x").touch()


def replaced_by_pipe(path: Path) -> None:
    """Put something in the place of a file that nobody can open without waiting for ever."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)


#: What somebody, or something, did to the directory of a run that is done.
ODDITIES: dict[str, Callable[[RunDir], object]] = {
    "a notebook's folder": lambda run: [(path / ".ipynb_checkpoints").mkdir() for path in (run.path, run.attempts)],
    "a copy of an attempt": lambda run: shutil.copy(run.attempts / "1.json", run.attempts / "1 (copy).json"),
    "a copy of what was put aside": lambda run: (run.path / "attempt-1-old").mkdir(),
    "a copy of an evaluation": lambda run: (run.path / "evaluations" / "1 (copy)").mkdir(parents=True),
    "a folder of another name": lambda run: shutil.copytree(run.path, run.path.with_name("copy of it")),
    "nothing in it": lambda run: [shutil.rmtree(run.path), run.path.mkdir()],
    "a file in its place": lambda run: [shutil.rmtree(run.path), run.path.touch()],
    "a link to nowhere": lambda run: [shutil.rmtree(run.path), run.path.symlink_to("nowhere")],
    "a link to itself": lambda run: [shutil.rmtree(run.path), run.path.symlink_to(run.path.name)],
    "a deep record": lambda run: run.record.write_text(DEEP),
    "a list for a record": lambda run: run.record.write_text("[]"),
    "a list for a configuration": lambda run: run.run.write_text("[]"),
    "a list for weights": lambda run: run.weights.write_bytes(b"\2\0\0\0\0\0\0\0[]"),
    "a deep attempt": lambda run: (run.attempts / "1.json").write_text(DEEP),
    "a list for progress": lambda run: run.progress.write_text("[1]"),
    "a folder for a claim": lambda run: (run.claim / "7").mkdir(),
    "a file for drafts": lambda run: (run.claim / "drafts-x").touch(),
    "folders for files": lambda run: [replaced_by_folder(path) for path in (run.record, run.run, run.curve, run.log)],
    "pipes for files": lambda run: [replaced_by_pipe(path) for path in (run.curve, run.log, run.predictions("vqa"))],
    "a file for attempts": lambda run: [shutil.rmtree(run.attempts), run.attempts.touch()],
}
VERBS = {
    "dry run": ["sweep", *GRID, "--dry-run"],
    "status": ["status", *GRID],
    "show": ["show", RUNS[1].id],
    "show it": ["show", ODD.id],
    "logs": ["logs", ODD.id],
    "score": ["score", "--all"],
    "retry": ["retry", *GRID, "--failed"],
    "cancel": ["cancel", *GRID],
    "clean": ["clean", "--yes"],
    "list": ["list"],
    "du": ["du"],
    "status of all": ["status", "--all"],
    "export": ["export", "--format", "csv", "--out", "all.csv"],
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A done run, another one, and one that has not begun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.run.run_one", fake_runs.run_one)
        results = tmp_path_factory.mktemp("template") / "results"
        assert not work_through(RUNS[:2], Execution(), results)
        yield results


@pytest.fixture
def results(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setattr("bench.cli.sweep.check_inputs", lambda *inputs, partial: None)
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", "0.2")
    return Path(shutil.copytree(template, tmp_path / "results"))


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.filterwarnings("ignore:record left out")
def test_every_verb_goes_on(
    oddity: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ODDITIES[oddity](RunDir(results, ODD.id))
    kept = state(results, ODD).name == "done"
    monkeypatch.chdir(tmp_path)
    for verb, words in VERBS.items():
        code = main([*words, "--results", str(results)])
        captured = capsys.readouterr()
        about_it = verb in ("show it", "logs")
        assert code in ((0, 1, 2) if about_it else (0, 1)), (verb, captured.err)
        if verb in ("status", "status of all"):
            assert f"{RUNS[1].id}  done" in captured.out
    record = RunDir(results, RUNS[1].id).record.read_bytes()
    assert work_through(RUNS, Execution(), results, retry=NEVER) is not None
    assert [state(results, run).name for run in RUNS[1:]] == ["done", "done"]
    assert RunDir(results, RUNS[1].id).record.read_bytes() == record
    assert not kept or state(results, ODD).name == "done"


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_is_merged_or_removed_beside_it_is_all_there(
    oddity: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ODDITIES[oddity](RunDir(results, ODD.id))
    other = tmp_path / "other"
    assert main(["merge", str(results), "--results", str(other)]) in (0, 1)
    assert state(other, RUNS[1]).name == "done"
    assert main(["rm", RUNS[1].id, ODD.id, "--yes", "--results", str(results)]) in (0, 1, 2)
    assert main(["rm", RUNS[1].id, "--yes", "--results", str(results)]) in (0, 2)
    assert not RunDir(results, RUNS[1].id).path.exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:record left out")
def test_a_report_is_made_of_the_rest(results: Path, tmp_path: Path) -> None:
    for name, oddity in ODDITIES.items():
        copy = Path(shutil.copytree(results, tmp_path / name))
        oddity(RunDir(copy, ODD.id))
        assert RUNS[1].id in set(load_results(copy)["run_id"])


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), FileNotFoundError(2, "No such file")])
def test_an_immutable_or_vanished_folder_costs_its_run(
    error: OSError, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {name: getattr(os, name) for name in ("mkdir", "rename", "replace", "unlink", "link")}

    def refused(name: str) -> Callable[..., object]:
        def patched(path: object, *rest: object, **more: object) -> object:
            if RUNS[2].id in str(path):
                raise error
            return real[name](path, *rest, **more)

        return patched

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, refused(name))
        begin_anew(RUNS[1], results)
        RunDir(results, RUNS[1].id).record.unlink()
        assert len(work_through(RUNS, Execution(), results)) == 1
    assert [state(results, run).name for run in RUNS[:2]] == ["done", "done"]
    assert not work_through(RUNS, Execution(), results)


def test_files_of_others_are_not_drafts(results: Path) -> None:
    folder = RunDir(results, ODD.id)
    mine = folder.path / ".record.json.0123456789ab"
    theirs = [folder.path / name for name in (".gitignore", ".nfs0000000000a1b2c3", "attempt-1-old", ".cache")]
    for path in (mine, *theirs[:2]):
        path.touch()
    for path in theirs[2:]:
        path.mkdir()
    folder.record.unlink()
    folder.begin(ODD)
    assert not mine.exists() and all(path.exists() for path in theirs)
    folder.record.write_text("{}")
    folder.begin(ODD)
    assert (folder.path / "attempt-1" / "record.json").exists()


def test_clean_removes_what_nobody_needs_and_nothing_else(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, other = RunDir(results, RUNS[0].id), RunDir(results, RUNS[2].id)
    other.path.mkdir()
    other.checkpoint.write_text("to be gone on with")
    dead = [
        done.path / ".curve.jsonl.0123456789ab",
        done.attempts / ".1.json.0123456789ab",
        done.predictions("gqa").with_name(".gqa.jsonl.gz.0123456789ab"),
        done.claim / ".9.0123456789ab",
        done.claim / "drafts-0123",
        done.checkpoint,
        done.progress,
        other.progress,
    ]
    for path in dead:
        if path.name == "drafts-0123":
            path.mkdir()
        else:
            path.write_text("x")
    before = {path for path in results.rglob("*") if done.claim not in path.parents and other.claim != path.parent}
    words = ["clean", "--results", str(results), "--format", "json"]
    assert main(words) == 0
    assert {row["file"] for row in json.loads(capsys.readouterr().out)} == {str(path) for path in dead}
    assert all(path.exists() for path in dead)
    assert main([*words, "--yes"]) == 0
    after = {path for path in results.rglob("*") if done.claim not in path.parents and other.claim != path.parent}
    assert before - after == {path for path in dead if done.claim not in path.parents}
    assert {path.name for path in done.claim.iterdir()} == {"2"}
    capsys.readouterr()
    assert main(words) == 0 and json.loads(capsys.readouterr().out) == []


def test_clean_leaves_a_run_that_somebody_works_on(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.sweep.claims import ClaimObserver, acquire

    folder = RunDir(results, RUNS[2].id)
    with acquire(folder.claim, ClaimObserver()) as lease:
        assert lease is not None
        folder.hold = lease
        folder.write_json(folder.progress, {})
        (lease.drafts / ".x.0123456789ab").touch()
        assert main(["clean", "--yes", "--results", str(results)]) == 0
        assert "0 files" in capsys.readouterr().out
        assert folder.progress.exists() and list(lease.drafts.iterdir())
    assert not attempts.read(folder)
