"""Which sweep a verb is about: one that is about to be started, or one that was, with the flags applied."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cli.options import axis, data_name
from bench.config import parse_setting
from bench.errors import UsageError, unknown
from bench.sweep import spec
from bench.sweep.report_names import report_name
from bench.sweep.spec import Sweep
from bench.sweep.started import StartedSweep, started_names, started_sweeps
from bench.toml_files import shortened


def selected(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep that is to be started: a built-in one, that of a file, or else one that was started, and flags.

    New methods replace a built-in sweep's variants too. The data roots of a started sweep go into ``arguments.roots``.
    """
    if not spec.is_file_name(arguments.spec) and arguments.spec not in _built_in():
        return _started(arguments, started_sweeps(arguments.results, arguments.spec))
    return _with_flags(spec.load(arguments.spec), arguments)


def planned(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep that a verb looks at: as it was started under its name, else as :func:`selected` says.

    Flags are applied to the plan that was started last, unless a plan was started with just these flags. A file is
    read as it is now. The data roots of a started sweep go into ``arguments.roots``.
    """
    if spec.is_file_name(arguments.spec):
        return _of_file(arguments)
    plans = started_sweeps(arguments.results, arguments.spec)
    return _started(arguments, plans) if plans else selected(arguments)


def started(results: Path, name: str) -> Sweep | None:
    """Return the sweep that was started last under a name, None where there is none."""
    plans = started_sweeps(results, name)
    if not plans:
        return None
    _name_others(plans, plans[-1])
    return plans[-1].sweep


def _built_in() -> list[str]:
    return [*spec.names(), *spec.names(spec.ABLATIONS)]


def _of_file(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep of a file; the data roots with which it was started are known."""
    sweep = selected(arguments)
    plans = started_sweeps(arguments.results, sweep.name)
    if same := [plan for plan in plans if plan.sweep.content() == sweep.content()]:
        arguments.roots = same[-1].roots
    elif plans:
        arguments.roots = plans[-1].roots
        message = f"is another plan than was started; `{sweep.name}` without .toml is that one"
        print(f"note: {shortened(arguments.spec)} {message} ({_date(plans[-1])})", file=sys.stderr)
    return sweep


def _started(arguments: argparse.Namespace, plans: list[StartedSweep]) -> Sweep:
    if not plans:
        raise unknown(
            "sweep", shortened(arguments.spec), dict.fromkeys([*_built_in(), *started_names(arguments.results)])
        )
    plan = plans[-1]
    flags = _flags(plan.sweep, arguments)
    if flags and arguments.spec in _built_in():
        typed = _with_flags(spec.load(arguments.spec), arguments).content()
        plan = next((same for same in reversed(plans) if same.sweep.content() == typed), plan)
    _name_others(plans, plan)
    arguments.roots = plan.roots
    return _with_flags(plan.sweep, arguments)


def _name_others(plans: Sequence[StartedSweep], chosen: StartedSweep) -> None:
    """Say which of several plans of one name a verb is about."""
    if len(plans) > 1:
        others = ", ".join(other.key for other in plans if other is not chosen)
        message = f"{len(plans)} plans were started under this name; this is {chosen.key} ({_date(chosen)})"
        print(f"note: {message}; the others: {others}", file=sys.stderr)


def _with_flags(sweep: Sweep, arguments: argparse.Namespace) -> Sweep:
    """Return a sweep with the flags of the command line; its report is called after them, or as --name says."""
    changed = spec.changed(sweep, **_flags(sweep, arguments))
    if name := getattr(arguments, "name", None):
        return changed.model_copy(update={"name": name, "folder": None})
    return changed.model_copy(update={"folder": report_name(sweep, changed)})


def _flags(sweep: Sweep, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a sweep that flags of the command line change."""
    settings = dict(parse_setting(item) for item in arguments.settings)
    axes: dict[str, Any] = {}
    for text in arguments.axes:
        key, values = axis(text)
        if key in axes:
            raise UsageError(f"--axis {key}: is given twice; write all its values in one")
        axes[key] = values
    fields = {
        "methods": arguments.methods,
        "variant": () if arguments.methods else None,
        "suites": arguments.suites,
        "tasks": arguments.tasks,
        "backbones": arguments.backbones,
        "seeds": arguments.seeds,
        "seeds_of": {} if arguments.seeds else None,
        "given": {**sweep.given, **settings} if settings else None,
        "axes": {**sweep.axes, **axes} if axes else None,
        "steps": tuple(arguments.steps) if arguments.steps else None,
        "drop": arguments.drop,
        "add": arguments.add,
        "only": tuple(arguments.only) if arguments.only else None,
        "but": tuple(arguments.but) if arguments.but else None,
        "recipe": arguments.recipe,
        "data": data_name(arguments.data),
        "max_cells": arguments.max_cells,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _date(plan: StartedSweep) -> str:
    return plan.started[:16].replace("T", " ")
