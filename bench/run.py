"""One run from configuration to record: the only place that trains."""

import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import predict, stages, surroundings, train
from bench.config import Execution, Run
from bench.data.check import counts
from bench.device import MEMORY_DEFINITION, matrix_products
from bench.errors import UsageError
from bench.events import Listener, OwnershipLost, RunEvent, RunHold, silent
from bench.files import explain_write_errors, read_json_lines
from bench.preparation import prepare_method
from bench.record_schema import Failure, Record, classify, now
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.stage_outputs import StageOutputs

TRACEBACK_LINES = 20  # of the log, in the record of a failure


def run_one(
    run: Run, execution: Execution, results: Path, listener: Listener = silent, hold: RunHold | None = None
) -> Record:
    """Train, evaluate, measure and record one run; continue it where an interrupted attempt left a checkpoint.

    Args:
        run: what to run.
        execution: where: device, threads, folders of data roots.
        results: the results folder.
        listener: receives the events of the run.
        hold: says when the run is to stop, and when it has been lost to another process.

    Returns:
        The record, which has been written. A run that fails has a record too, with its cause.

    Raises:
        KeyboardInterrupt: the run was interrupted; its checkpoint is kept and no record is written.
        OwnershipLost: another process has taken the run over; nothing more was written.
        SurroundingsFault: something that the run needs is not there: room on the disk, a data file, the device. What it
            has is kept, no record is written, and another call goes on from there.
    """
    hold = hold or RunHold()
    context = RunContext(run, execution, RunDir(results, run.id, hold), listener, hold)
    try:
        context.folder.begin(run)
        listener(RunEvent("start", run.id))
        record = _record(context, results)
        context.folder.finish(record)
    except OwnershipLost:
        raise  # before KeyboardInterrupt, which it is: nothing may be written, not even the segment
    except KeyboardInterrupt as stop:
        _end_segment(context, str(stop) or "interrupted")
        listener(RunEvent("end", run.id, "interrupted"))
        raise
    except UsageError as error:
        fault = surroundings.explain(error) or error
        _end_segment(context, getattr(fault, "name", "input"))
        listener(RunEvent("end", run.id, f"interrupted: {fault}"))
        if reason := context.stop_reason():  # the checkpoint of an interruption could not be written
            raise KeyboardInterrupt(f"{reason}; {fault}") from error
        raise fault from error
    listener(RunEvent("end", run.id, record.status if record.cause is None else f"{record.status}: {record.cause}"))
    return record


def _record(context: RunContext, results: Path) -> Record:
    """Run the stages and return the record of their end: done, or failed where the run itself is to blame.

    Raises:
        SurroundingsFault: the surroundings of the run are to blame.
    """
    outputs = StageOutputs()
    try:
        with context.stopped_by_signals(), matrix_products(context.run.recipe.precision):
            context.group.send((context.run, context.execution, results))
            with context.group.together():
                run_stages(context, outputs)
        return make_record(context, outputs, status="done")
    except Exception as error:
        context.hold.verify()  # what goes wrong in a run that was lost says nothing
        if fault := surroundings.explain(error):
            raise fault from error
        context.segment.end(context.step, classify(error))
        failure = write_failure(context, error)
        return make_record(context, outputs, status="failed", cause=classify(error), error=failure)


def _end_segment(context: RunContext, reason: str) -> None:
    with suppress(UsageError):  # on a full disk
        context.segment.end(context.step, reason)


def run_stages(context: RunContext, outputs: StageOutputs) -> None:
    """Run all stages in order, in all processes of the run; each output is stored as soon as it is there, for the
    record of a later failure."""
    outputs.machine = machine = stages.prepare_machine(context)
    outputs.data = data = stages.prepare_data(context)
    outputs.fingerprints = stages.take_fingerprints(context, data)
    outputs.training_sets = stages.read_training_sets(context, data)

    model = stages.build_model(context, data, machine)
    outputs.preparation = context.group.share(
        lambda: prepare_method(
            context, model, outputs.training_sets, outputs.fingerprints, machine.device, machine.memory
        )
    )
    outputs.attached = attached = stages.attach_method(context, model, machine, outputs.preparation)

    context.enter("train")  # from here on a signal stops at the next update instead of at once
    plan = train.TrainingPlan.of(context.run.task_list, outputs.training_sets, context.run.recipe)
    parts = stages.micro_batches(context, attached)
    activation_bytes = stages.measure_first_step(context, attached, plan, machine, parts)
    outputs.training = stages.train_model(
        context, attached, plan, data, outputs.fingerprints, machine, parts, activation_bytes
    )
    machine.environment["micro_batch"] = parts.size
    context.folder.save_weights(attached.handle.save, context.folder.weights)
    context.segment.end(context.step, "done")

    stages.merge_method(context, attached, machine)
    outputs.predicted = stages.evaluate_tasks(context, model, data, machine)
    stages.collect(context, machine, parts)
    outputs.scored = stages.score_tasks(context, outputs.predicted, machine)
    if context.execution.predict:
        predict.write_split_after_training(context, model, data, machine, context.execution.predict)


def write_failure(context: RunContext, error: Exception) -> Failure:
    """Write the traceback to the run's log and return what the record says about the failure."""
    text = "".join(traceback.format_exception(error))
    with explain_write_errors(context.folder.log):
        context.folder.write(context.folder.log, text.encode("utf-8", errors="backslashreplace"))
    return Failure(
        phase=context.phase,
        step=context.step or None,
        type=type(error).__name__,
        message=str(error)[:2000],
        tail=text.splitlines()[-TRACEBACK_LINES:],
    )


def make_record(context: RunContext, outputs: StageOutputs, **outcome: Any) -> Record:
    """Return the record of a run from the outputs of the stages that finished.

    ``outcome`` are the fields ``status``, ``cause`` and ``error``.
    """
    return Record(
        id=context.folder.id,
        run=context.run,
        **outcome,
        environment=outputs.machine.environment if outputs.machine else {},
        data=_data_facts(outputs),
        fingerprints=outputs.fingerprints,
        parameters=outputs.attached.parameters if outputs.attached else {},
        time=_seconds(context, outputs),
        memory=_memory(context, outputs),
        selected=outputs.training.selected if outputs.training else None,
        scores=outputs.scored.scores if outputs.scored else {},
        diagnostics=outputs.attached.handle.diagnostics() if outputs.attached and outputs.predicted else {},
        segments=read_json_lines(context.folder.segments),
        limited=context.run.recipe.limit is not None or bool(outputs.data and outputs.data.lacks),
        notes=context.notes,
        finished=now(),
    )


def _data_facts(outputs: StageOutputs) -> dict[str, Any]:
    data = outputs.data
    if data is None:
        return {}
    facts: dict[str, Any] = {
        "name": data.name,
        "root": str(data.root),
        "fingerprint": data.fingerprint,
        "synthetic": data.synthetic,
    }
    if data.lacks:
        facts["lacks"] = list(data.lacks)
    tolerated = {f"{name} train": dict(data.tolerated) for name, data in outputs.training_sets.items()}
    for part in outputs.predicted.tasks if outputs.predicted else ():
        tolerated[f"{part.task.name} {part.split}"] = dict(part.tolerated)
    if tolerated := {name: kinds for name, kinds in tolerated.items() if kinds}:
        facts["tolerated"] = tolerated
    return facts | ({"counts": counts(outputs.training_sets)} if outputs.training_sets else {})


def _seconds(context: RunContext, outputs: StageOutputs) -> dict[str, float | None]:
    """Return the times of the finished stages.

    ``step_seconds`` is the median over the updates; in ``data_wait_seconds`` of the training, a share
    ``data_wait_share`` of it, the device waited for batches; ``preparation_seconds`` are those of the process that
    computed what the method needs of the training data, be it this one or an earlier one.
    """
    times: dict[str, float | None] = {}
    if outputs.preparation:
        times["preparation_seconds"] = outputs.preparation.seconds
    if outputs.training:
        trained = outputs.training.trained
        steps = sorted(trained.step_seconds)
        times |= {
            "train_seconds": trained.seconds,
            "step_seconds": steps[len(steps) // 2] if steps else None,
            "samples_per_second": trained.examples / trained.seconds if trained.seconds else None,
            "steps": trained.steps,
            "data_wait_seconds": trained.data_wait_seconds,
            "data_wait_share": trained.data_wait_seconds / trained.seconds if trained.seconds else None,
        }
    if outputs.predicted and outputs.scored:
        times |= {
            "evaluate_seconds": outputs.predicted.seconds + outputs.scored.seconds,
            "total_seconds": time.monotonic() - context.begun,
        }
    return times


def _memory(context: RunContext, outputs: StageOutputs) -> dict[str, Any]:
    if outputs.machine is None or outputs.training is None:
        return {}
    phases = dict(outputs.machine.memory.phases)
    if context.segment.start_step == outputs.training.trained.steps:
        phases.pop("train", None)  # an earlier attempt has trained, and this one only evaluated
    return {
        "definition": MEMORY_DEFINITION,
        "phases": phases,
        "analytic": outputs.training.analytic_memory,
    }
