"""Several processes on one run, over gloo: the losses, scores and files of one process, whatever ends one of them."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench import micro_batches, parallel, stages
from bench.cli import main
from bench.cli.processes import check_executor
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.files import read_json_lines
from bench.record_schema import Record
from bench.run import run_one
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.sweep import attempts
from bench.sweep.claim_files import current
from bench.sweep.worker import REQUEUE, Pack

CONTEXT = multiprocessing.get_context("forkserver")  # a fork of this process, which has gone backward, could not
CONTEXT.set_forkserver_preload(["bench.run", "bench.follow", "bench.sweep.execute", "transformers"])
#: batches of 4 and 3 examples of VQA, of 4 and 2 of GQA: shares differ, and of four some are empty; evaluation of 7, 6
SETTINGS: dict[str, Any] = {"batch_size": 4, "steps": 6, "limit": 7, "beams": 2, "n_boxes": 4, "eval_batch_size": 3}
PLAIN = {"recipe.dropout": 0.0, "validate": "epoch", "select": "best"}
DROPOUT = {"recipe.dropout": 0.1, "checkpoint_every": 2}
SIGNAL, DEATH, FAULT, MEMORY, CANCELLED, LOST = range(1, 7)  # the seeds of runs to which this happens


def make(seed: int = 1, **settings: object) -> Run:
    settings = {**SETTINGS, **settings}
    return resolve("mini-bart", "vl-pet-large", "image-text", seed=seed, task_names=("vqa", "gqa"), settings=settings)


def disturb(happens: dict[int, int], results: Path, rank: int) -> None:
    """Let something happen to the runs with these seeds, mostly in process 1, at the updates that they map to."""
    real_train, real_loss = stages.train_model, micro_batches.batch_loss
    real_backward = micro_batches.MicroBatches.backward
    now: dict[str, Any] = {"updates": 0}

    def train_model(context: RunContext, *inputs: Any) -> Any:
        now.update(run=context.run, updates=0)
        try:
            return real_train(context, *inputs)
        finally:
            del now["run"]

    def backward(*inputs: Any) -> Any:
        now["updates"] += 1
        if "run" in now and now["updates"] == happens.get(now["run"].seed):
            happen(now["run"].seed, RunDir(results, now["run"].id))
        return real_backward(*inputs)

    def happen(seed: int, folder: RunDir) -> None:
        if rank == 1 and seed == SIGNAL:
            os.kill(os.getpid(), signal.SIGUSR2)
        elif rank == 1 and seed == DEATH:
            os.kill(os.getpid(), signal.SIGKILL)
        elif rank == 0 and seed == CANCELLED:
            folder.cancelled.touch()
            time.sleep(0.5)  # some beats
        elif rank == 0 and seed == LOST and len(attempts.read(folder)) == 1:
            claim = current(folder.claim)
            assert claim is not None
            owner = replace(claim.owner, pid=2**22 + 1, token="another")  # who is dead
            (folder.claim / str(claim.number + 1)).write_text(json.dumps(asdict(owner)))
            time.sleep(0.5)

    def batch_loss(model: Any, batch: Any, *inputs: Any, **options: Any) -> Any:
        seed = now["run"].seed if "run" in now else None
        if rank == 1 and seed in happens and (seed == FAULT or (seed == MEMORY and len(batch.ids) > 1)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real_loss(model, batch, *inputs, **options)

    stages.train_model, micro_batches.batch_loss = train_model, batch_loss
    micro_batches.MicroBatches.backward = backward  # type: ignore[method-assign]


def process(port: int, rank: int, size: int, prepare: Callable[[int], None], words: list[str]) -> None:
    """Do what ``torchrun`` would have this process do: one command line, in its environment."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    os.environ.update(zip(names, (str(rank), str(rank), str(size), "127.0.0.1", str(port)), strict=True))
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "VLPET_BENCH_LEASE_SECONDS": "3"}
    prepare(rank)
    raise SystemExit(main(words))


def work(
    size: int, runs: Sequence[Run], folder: Path, data: Path, happens: dict[int, int] | None = None
) -> list[int | None]:
    """Work through runs in several processes; return their exit codes, None for one that hangs."""
    pack = folder / "pack.json"
    execution = Execution(device="cpu", data={"mini": data})
    Pack(runs=tuple(runs), execution=execution, results=folder, retry="never").write(pack)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prepare, words = partial(disturb, happens or {}, folder), ["work", "--pack", str(pack)]
    processes = [CONTEXT.Process(target=process, args=(port, rank, size, prepare, words)) for rank in range(size)]
    for item in processes:
        item.start()
    deadline = time.monotonic() + 100
    for item in processes:
        item.join(max(0.0, deadline - time.monotonic()))
    codes = [item.exitcode for item in processes]
    for item in processes:
        item.kill()
    return codes


def record_of(results: Path, run: Run) -> Record:
    record = RunDir(results, run.id).read()
    assert record is not None
    return record


def losses(results: Path, run: Run) -> list[float]:
    return [row["loss"] for row in read_json_lines(RunDir(results, run.id).curve)]


@pytest.fixture(scope="module")
def single(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process, without dropout."""
    results = tmp_path_factory.mktemp("single")
    run_one(make(**PLAIN), Execution(device="cpu", data={"mini": tiny_root}), results)
    return results


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_give_the_losses_and_scores_of_one(
    single: Path, tmp_path: Path, tiny_root: Path, size: int
) -> None:
    run = make(**PLAIN)
    assert work(size, [run], tmp_path, tiny_root) == [0] * size
    record, expected = record_of(tmp_path, run), record_of(single, run)
    assert record.status == "done", record.error
    assert record.environment["world_size"] == size
    assert record.environment["hardware"].startswith(f"{size} x cpu: ")
    assert losses(tmp_path, run) == pytest.approx(losses(single, run), rel=1e-4)
    ours, theirs = (load_file(RunDir(results, run.id).weights) for results in (tmp_path, single))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-4)
    assert {n: s.metrics for n, s in record.scores.items()} == {n: s.metrics for n, s in expected.scores.items()}
    for task in run.task_list:
        rows = [RunDir(results, run.id).read_predictions(task.name) for results in (tmp_path, single)]
        assert rows[0] == rows[1]
    assert record.selected is not None and expected.selected is not None
    assert record.selected["step"] == expected.selected["step"]


HAPPENS = {FAULT: 1, MEMORY: 1, CANCELLED: 3, LOST: 3}
RUNS = {seed: make(seed, **DROPOUT) for seed in (FAULT, MEMORY, CANCELLED, LOST, SIGNAL, DEATH)}


@pytest.fixture(scope="module")
def results(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two processes that have worked through runs to which something happened, and one undisturbed."""
    results = tmp_path_factory.mktemp("two")
    assert work(2, [RUNS[seed] for seed in (*HAPPENS, SIGNAL)], results, tiny_root, HAPPENS) == [0, 0]
    return results


def test_what_fails_in_one_process_is_in_the_record(results: Path) -> None:
    failed = record_of(results, RUNS[FAULT])
    assert (failed.status, failed.cause) == ("failed", "oom")
    assert failed.error is not None
    assert "process 1 of 2" in failed.error.message
    assert "in batch_loss" in RunDir(results, RUNS[FAULT].id).log.read_text()

    halved = record_of(results, RUNS[MEMORY])
    assert halved.status == "done"
    assert any("process 1: memory did not suffice" in note for note in halved.notes)
    assert halved.environment["micro_batch"] == 1


def test_a_run_that_another_process_takes_over_is_left_at_once(results: Path) -> None:
    """The other process has died, so the run goes on from the last checkpoint that was written while it was ours."""
    assert record_of(results, RUNS[LOST]).status == "done"
    outcomes = [(attempt.outcome, attempt.reason) for attempt in attempts.read(RunDir(results, RUNS[LOST].id))]
    assert len(outcomes) == 2 and outcomes[-1] == ("done", "")
    assert outcomes[0][0] != "done"
    segments = record_of(results, RUNS[LOST]).segments
    assert [(s["start_step"], s["end_step"], s["reason"]) for s in segments] == [(0, 2, "killed"), (2, 6, "done")]


def test_a_cancelled_run_stops_in_all_processes_and_one_goes_on(results: Path, tiny_root: Path) -> None:
    folder = RunDir(results, RUNS[CANCELLED].id)
    assert folder.read() is None
    (segment,) = read_json_lines(folder.segments)
    assert (segment["end_step"], segment["reason"]) == (3, "cancelled")
    assert torch.load(folder.checkpoint)["step"] == 3
    alone = run_one(RUNS[CANCELLED], Execution(device="cpu", data={"mini": tiny_root}), results)
    assert (alone.status, alone.time["steps"]) == ("done", 6)
    assert any("by 1 processes after 2" in note for note in alone.notes)


def test_a_signal_stops_all_processes_and_the_run_goes_on_bit_for_bit_and_a_death_ends_all(
    results: Path, tmp_path: Path, tiny_root: Path
) -> None:
    run, other = RUNS[SIGNAL], RUNS[DEATH]
    assert work(2, [run], tmp_path, tiny_root, {SIGNAL: 3}) == [REQUEUE, REQUEUE]
    assert work(2, [run, other], tmp_path, tiny_root, {DEATH: 3}) == [REQUEUE, -signal.SIGKILL]
    first, second = record_of(tmp_path, run).segments
    assert (first["end_step"], first["reason"], second["start_step"]) == (3, "SIGUSR2", 3)
    assert losses(tmp_path, run) == losses(results, run)
    files = [RunDir(folder, run.id).weights.read_bytes() for folder in (tmp_path, results)]
    assert files[0] == files[1]
    folder = RunDir(tmp_path, other.id)
    assert torch.load(folder.checkpoint)["step"] == 2
    assert [attempt.outcome for attempt in attempts.read(folder)] == ["interrupted"]


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"),
        ({"WORLD_SIZE": "four", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "four"),
    ],
)
def test_an_environment_that_is_not_that_of_a_process_is_one_error_line(
    environment: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in parallel.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["run", "--method", "lora"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert fault in line


def test_what_starts_processes_of_its_own_or_names_one_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--executor local: starts processes of its own"):
        check_executor("local")
    with pytest.raises(UsageError, match="--device cuda:1: each of 2 processes has a GPU of its own"):
        parallel.ProcessGroup(0, 2, 0).device("cuda:1")
