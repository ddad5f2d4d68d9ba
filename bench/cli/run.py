"""``run``: one run in this process."""

import argparse
import sys

from bench.cli.options import (
    add_execution,
    add_folders,
    add_merge,
    add_partial,
    add_predict,
    add_recipe,
    add_settings,
    data_name,
    execution,
)

EXAMPLES = {"run": "example: python -m bench run --method vl-pet-large --suite image-text --set steps=100"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--backbone", default="mini-bart", help="backbone (mini-bart)")
    parser.add_argument("--method", required=True, help="method")
    parser.add_argument("--suite", default="image-text", help="suite (image-text)")
    parser.add_argument("--seed", type=int, default=1, help="seed (1)")
    add_recipe(parser)
    add_settings(parser)
    add_partial(parser)
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="what is printed at the end (table)"
    )
    add_execution(parser)
    add_predict(parser)
    add_merge(parser)
    add_folders(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Run it, unless its record says that it is done, and print its scores; a failed or cancelled run begins anew."""
    from bench import backbones
    from bench.cli.inputs import check_inputs
    from bench.cli.options import show
    from bench.cli.progress import Progress
    from bench.config import parse_setting, resolve
    from bench.fingerprints import Expectations
    from bench.predict import require_split
    from bench.run_dir import RunDir
    from bench.states import NEVER
    from bench.sweep.execute import begin_anew, require_device, work_through
    from bench.sweep.run_state import state

    run = resolve(
        arguments.backbone,
        arguments.method,
        arguments.suite,
        seed=arguments.seed,
        recipe=arguments.recipe,
        data=data_name(arguments.data),
        settings=dict(parse_setting(item) for item in arguments.settings),
    )
    machine = execution(arguments)
    backbones.require_weights(run.backbone)
    require_device(machine)
    if machine.predict:
        require_split([run], machine.predict)
    expected = Expectations(machine.data)
    current = state(arguments.results, run, expected=expected)
    if current.name == "stale":
        print(f"{run.id} is stale, it is done again: {current.note}", file=sys.stderr)
    if current.name != "done":
        check_inputs([run], machine, partial=arguments.partial)  # a fault is bad input, not a run that failed
    if current.name in ("failed", "parked", "cancelled", "stale"):
        begin_anew(run, arguments.results, expected)
    with Progress(1, quiet=arguments.quiet) as progress:
        faults = work_through([run], machine, arguments.results, progress, retry=NEVER)
    if faults and getattr(faults[0], "name", "input") == "input":
        raise faults[0]
    if faults:
        print(f"{run.id}: interrupted: {faults[0]}", file=sys.stderr)
        return 1
    record = RunDir(arguments.results, run.id).read()
    if record is None:
        print(f"{run.id} was cancelled")
        return 1
    if arguments.format == "json":
        print(record.model_dump_json(indent=1, by_alias=True))
    elif record.status == "done":
        show(
            [
                {"task": name, "split": s.split, "metric": s.metric, "score": s.value, "n": s.n}
                for name, s in record.scores.items()
            ],
            "table",
        )
        print(f"record: {RunDir(arguments.results, run.id).record}")
    else:
        print(f"failed ({record.cause}): {record.error.message if record.error else ''}")
        print(f"log: {RunDir(arguments.results, run.id).log}")
    return 0 if record.status == "done" else 1
