"""The trained weights that a run directory keeps: the model with them, and their evaluation without training."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import methods
from bench import stages, suites, surroundings
from bench.backbones import VLModel
from bench.config import Execution, Run
from bench.device import matrix_products
from bench.environment import code_version
from bench.errors import UsageError, unknown
from bench.events import Listener, RunEvent, silent
from bench.files import explain_write_errors
from bench.fingerprints import Expectations, Fingerprints, differences, of_record, stored, summary
from bench.predict import WrittenPredictions, tasks_with, write_split
from bench.record_schema import Evaluation, Record, Score, classify, now
from bench.run import make_record, write_failure
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.scoring import replace_score
from bench.stage_outputs import DataRoot, StageOutputs
from bench.sweep.claims import claimed
from bench.weights_file import check_weights
from methods.core.errors import MethodError

REPORTED = "reported"  # the split that each task's table reports


def open_run(path: Path) -> tuple[RunDir, Run]:
    """Return a run directory and its configuration; a language model in ``backbone/`` is the run's backbone.

    Raises:
        UsageError: there is no run in this directory.
        CorruptFile: its configuration or its weights cannot be what was written.
    """
    folder = RunDir.at(path)
    run = folder.read_run()
    _check_names(folder, run)
    check_weights(folder.weights)
    if folder.backbone.is_dir():
        run = run.model_copy(update={"backbone": str(folder.backbone.resolve())})
    return folder, run


def _check_names(folder: RunDir, run: Run) -> None:
    """Raise UsageError where the configuration names a task, suite or method that is not here, or options that the
    method does not have."""
    try:
        if run.tasks != suites.get(run.suite).select(run.tasks):
            raise UsageError(f"tasks: {', '.join(run.tasks)} are not in the order of the suite, or some of them twice")
        methods.get(run.method, **run.overrides)
    except (UsageError, MethodError) as error:
        raise UsageError(f"{folder.run}: {error}") from None


def load(path: Path, *, feat_dim: int, device: Any = "cpu") -> VLModel:
    """Return the model of a run directory with its kept weights, in eval mode.

    ``feat_dim`` is the number of columns of the visual features. Raises what :func:`open_run` does, and MethodError
    where the weights do not fit.
    """
    folder, run = open_run(path)
    model = stages.seeded_model(run, feat_dim, device)
    stages.with_method(run, model).load(folder.weights)
    return model.eval()


def evaluate(
    path: Path,
    execution: Execution,
    listener: Listener = silent,
    *,
    again: bool = False,
    split: str | None = None,
) -> tuple[Record, Evaluation | None]:
    """Predict and score with the kept weights of a run directory, and write or extend its record.

    A directory without a record gets one. With ``again`` the reported splits are evaluated although there is a record:
    its scores move to the history of the new ones, the earlier files to the folder of the evaluation. With ``split``
    another logical split is evaluated, and the record's own scores stay. A failure is recorded and changes no score.

    Returns:
        The record as written, and its new evaluation, None where the record itself is new.

    Raises:
        UsageError: there is no run, another process works on it, the record forbids it, or the surroundings do
            (:mod:`bench.surroundings`): data that are not there, a full disk, too little memory; nothing was written.
        MethodError: the weights do not fit; nothing was written.
        KeyboardInterrupt: interrupted; the record is as before.
    """
    folder, run = open_run(path)
    _check_request(folder, run, folder.read(), again, split)
    with claimed(folder):
        return _evaluate(folder, run, execution, listener, again=again, split=split)


def _evaluate(
    folder: RunDir, run: Run, execution: Execution, listener: Listener, *, again: bool, split: str | None
) -> tuple[Record, Evaluation | None]:
    """Do what :func:`evaluate` does in a run directory that this process holds."""
    earlier = folder.read()
    _check_request(folder, run, earlier, again, split)
    number = folder.new_evaluation() if earlier else None
    context, outputs = RunContext(run, execution, folder, listener, folder.hold), StageOutputs()
    listener(RunEvent("start", run.id))
    failure: dict[str, Any] = {}
    try:
        with context.stopped_by_signals(), matrix_products(run.recipe.precision):
            _run_stages(context, outputs, split, number)
    except (UsageError, MethodError, KeyboardInterrupt):
        _forget(folder, number)
        raise
    except Exception as error:
        if fault := surroundings.explain(error):
            _forget(folder, number)
            raise fault from error
        failure = {"status": "failed", "cause": classify(error), "error": write_failure(context, error)}
    if earlier is None or number is None:
        record, evaluation = make_record(context, outputs, **(failure or {"status": "done"})), None
        if folder.imported.exists():
            source = json.loads(folder.imported.read_text(encoding="utf-8"))
            record = record.model_copy(update={"imported": source})
    else:
        scores = outputs.scored.scores if outputs.scored else {}
        evaluation = Evaluation(
            number=number, split=split or REPORTED, when=now(), version=code_version(), scores=scores, **failure
        )
        record = earlier.model_copy(update={"evaluations": [*earlier.evaluations, evaluation]})
        if split is None and not failure:
            record = _with_scores(record, evaluation)
            with explain_write_errors(folder.path):
                folder.adopt_evaluation(
                    number, [name for name in scores if record.scores[name] != earlier.scores.get(name)]
                )
    folder.finish(record)
    listener(RunEvent("end", run.id, f"failed: {failure['cause']}" if failure else "done"))
    return record, evaluation


def predict_split(
    path: Path,
    execution: Execution,
    split: str,
    task_names: Sequence[str] = (),
    export: Path | None = None,
    listener: Listener = silent,
) -> list[WrittenPredictions]:
    """Predict a split with the kept weights of a finished run and write the files (:func:`bench.predict.write_split`).

    Raises:
        UsageError: there is no finished run, no task has the split, or the data root is not there or has changed.
        MethodError: the weights do not fit.
    """
    folder, run = open_run(path)
    record = folder.read()
    if record is None or record.status != "done":
        raise UsageError(f"{folder.path}: is no finished run; `python -m bench show {folder.id}` tells its state")
    tasks_with(split, run, task_names)
    context = RunContext(run, execution, folder, listener)
    listener(RunEvent("start", run.id))
    with context.stopped_by_signals():
        machine, data = stages.prepare_machine(context), stages.prepare_data(context)
        _same_fingerprints(context, data, ignored=("data", "features", "annotations"))  # those of other splits
        model = stages.build_model(context, data, machine)
        stages.attach_method(context, model, machine).handle.load(folder.weights)
        written = write_split(context, model, data, machine, split, task_names, export)
    listener(RunEvent("end", run.id, "done"))
    return written


def _forget(folder: RunDir, number: int | None) -> None:
    """Remove what an evaluation that counts for nothing has written."""
    if number is not None:
        shutil.rmtree(folder.evaluation(number), ignore_errors=True)


def _check_request(folder: RunDir, run: Run, earlier: Record | None, again: bool, split: str | None) -> None:
    """Raise UsageError where the evaluation asked for does not go with the record that is there."""
    if split is not None:
        if earlier is None or earlier.status != "done":
            raise UsageError(f"{folder.path}: evaluate the reported splits first, without --split")
        if run.recipe.evaluate == "tuning":
            raise UsageError(f"{folder.path}: a run that tunes is evaluated on its tuning split only")
        for task in run.task_list:
            if split not in task.splits:
                raise unknown(f"split of {task.name}", split, task.splits)
    elif earlier is not None and earlier.status == "done" and not again:
        raise UsageError(
            f"{folder.record}: is there already; --again evaluates once more, --split S on another split (`bench "
            "score` scores kept predictions again)"
        )


def _run_stages(context: RunContext, outputs: StageOutputs, split: str | None, number: int | None) -> None:
    """Run the stages of a training that an evaluation needs, with the kept weights in the place of training."""
    outputs.machine = machine = stages.prepare_machine(context)
    outputs.data = data = stages.prepare_data(context)
    outputs.fingerprints = _same_fingerprints(context, data)
    model = stages.build_model(context, data, machine)
    outputs.attached = attached = stages.attach_method(context, model, machine)
    attached.handle.load(context.folder.weights)
    outputs.predicted = stages.evaluate_tasks(context, model, data, machine, split=split, evaluation=number)
    outputs.scored = stages.score_tasks(context, outputs.predicted, machine, evaluation=number)


def _same_fingerprints(context: RunContext, data: DataRoot, ignored: Sequence[str] = ()) -> Fingerprints:
    """Return what the evaluation is made of; UsageError where the record of the directory is of something else.

    A record has one set of fingerprints, and its scores are all of them. Parts that are ``ignored`` are left out.
    """
    content = Expectations({data.name: data.root}).of(context.run)
    current = {part: names for part, names in content.items() if part not in ignored}
    record = context.folder.read()
    if record is not None and (lines := differences(of_record(record), current)):
        raise UsageError(
            f"{context.folder.record}: is of something else than what is there now ({summary(lines)}); evaluate a copy "
            "of the directory without record.json"
        )
    return stored(current)


def _replaces(score: Score, record: Record, task: str) -> bool:
    """Return whether a new score of a task takes the place of the record's: never a failed one that of a good one."""
    before = record.scores.get(task)
    return score.status == "done" or before is None or before.status == "failed"


def _with_scores(record: Record, evaluation: Evaluation) -> Record:
    """Return a record with the scores of an evaluation of the reported splits in the place of its own.

    A record that had failed is done now: since there are weights, its training had ended, and what failed becomes an
    earlier evaluation.
    """
    scores = dict(record.scores)
    for name, score in evaluation.scores.items():
        if _replaces(score, record, name):
            before, reason = scores.get(name), "evaluated again"
            scores[name] = (
                replace_score(before, score, evaluation.when, evaluation.version, reason) if before else score
            )
    changes: dict[str, Any] = {"scores": scores}
    if record.status == "failed":
        lost: dict[str, Any] = {"status": "failed", "cause": record.cause, "error": record.error}
        first = Evaluation(number=0, split=REPORTED, when=record.finished, **lost)
        changes |= {"status": "done", "cause": None, "error": None, "evaluations": [first, *record.evaluations]}
    return record.model_copy(update=changes)
