"""Which runs of a results folder are try-outs: results that bear a name in tables which means another configuration.

Tables call a run by its label: the method with its options, or what a sweep file or an ablation calls it. The recipe's
settings are not in it. So a run that follows its recipe is what its label says, and ``--set steps=20`` makes a try-out
of the same name. Settings that a sweep file has for all its runs are a design and no try-out, as long as no run
of the same name has others.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bench.config import Run, resolve
from bench.errors import UsageError
from bench.recipe import NOT_IN_ID, Recipe
from bench.sweep import spec
from bench.sweep.expand import expand
from bench.sweep.spec import Sweep
from bench.sweep.started import started_names, started_sweeps
from methods.core.errors import MethodError


def planned_runs(results: Path, name: str) -> set[str]:
    """Return the ids of the runs of a sweep, as it was started last, or else as its file or the built-in one has it.

    Raises:
        UsageError: there is no such sweep, or its plan cannot be read.
    """
    plans = [] if spec.is_file_name(name) else started_sweeps(results, name)
    return set(_run_ids([plans[-1].sweep if plans else spec.load(name)]))


def tryouts_among(results: Path, runs: Mapping[str, Run]) -> set[str]:
    """Return those ids, of runs by their ids in a results folder, that are of try-outs."""
    follows: dict[tuple[str, Recipe], bool] = {}
    deviating = set()
    for run_id, run in runs.items():
        key = (_configuration(run), run.recipe)
        if key not in follows:
            follows[key] = _follows_recipe(run)
        if not follows[key]:
            deviating.add(run_id)
    if not deviating:
        return deviating
    designed = deviating & set(_run_ids(_designs(results)))
    recipes = defaultdict(set)
    for run_id, run in runs.items():
        if run_id not in deviating or run_id in designed:
            recipes[_configuration(run)].add(_result_settings(run.recipe))
    return deviating - {run_id for run_id in designed if len(recipes[_configuration(runs[run_id])]) == 1}


def _configuration(run: Run) -> str:
    """Return what tables tell rows apart by, besides the seed."""
    content = [run.label, run.method, run.overrides, run.backbone, run.suite, run.tasks, run.data]
    return json.dumps(content, sort_keys=True, default=str)


def _result_settings(recipe: Recipe) -> str:
    """Return the settings that can change a result."""
    idle = NOT_IN_ID | ({"epochs"} if recipe.steps else set())
    return recipe.model_dump_json(exclude=idle)


def _follows_recipe(run: Run) -> bool:
    """Return whether a run has its recipe's settings, or a label that says otherwise; so it is where nobody knows."""
    if run.label is not None:
        return True
    try:
        plain = resolve(
            run.backbone,
            run.method,
            run.suite,
            data=run.data,
            recipe=run.recipe.name,
            task_names=run.tasks,
            settings={f"method.{key}": value for key, value in run.overrides.items()},
        )
    except (UsageError, MethodError):  # a recipe, method or backbone that is not here
        return True
    # What tells a run on a part of its examples, and one that tunes, stands in columns of their own.
    same = {name: getattr(run.recipe, name) for name in ("limit", "evaluate")}
    return _result_settings(plain.recipe.model_copy(update=same)) == _result_settings(run.recipe)


def _designs(results: Path) -> Iterator[Sweep]:
    """Yield the plans that were started without settings of the command line, and have some of their own."""
    for name in started_names(results):
        try:
            plans = started_sweeps(results, name)
        except UsageError:  # a plan that cannot be read makes no design of its runs
            continue
        yield from (plan.sweep for plan in plans if not plan.sweep.given and (plan.sweep.set or plan.sweep.per))


def _run_ids(sweeps: Iterable[Sweep]) -> Iterator[str]:
    for sweep in sweeps:
        yield from (cell.run_id for cell in expand(sweep) if cell.run)
