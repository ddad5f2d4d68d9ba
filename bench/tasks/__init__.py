"""The eight tasks, one file each. A new task is a new module here that defines ``TASK``, or an entry point
``vlpet_bench.tasks``.

>>> from bench import tasks
>>> tasks.names("image-text")
['vqa', 'gqa', 'nlvr', 'caption']
"""

from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from bench.errors import unknown
from bench.tasks.task import Decode, Example, Task, TaskScores

__all__ = ["Decode", "Example", "Task", "TaskScores", "get", "names", "suite", "suites"]


@lru_cache
def _registry() -> dict[str, Task]:
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    found = [module.TASK for module in modules if hasattr(module, "TASK")]
    found += [point.load() for point in entry_points(group="vlpet_bench.tasks")]
    return {task.name: task for task in sorted(found, key=lambda task: task.order)}


def names(suite: str | None = None) -> list[str]:
    """Return the names of all tasks, or of one suite's, in the official order."""
    return [task.name for task in _registry().values() if suite in (None, task.suite)]


def suites() -> list[str]:
    """Return the names of the suites: tasks that are trained together."""
    return list(dict.fromkeys(task.suite for task in _registry().values()))


def get(name: str) -> Task:
    """Return a task; UsageError with near matches for an unknown name."""
    if name not in _registry():
        raise unknown("task", name, _registry())
    return _registry()[name]


def suite(name: str) -> list[Task]:
    """Return the tasks of a suite in the official order; UsageError with near matches for an unknown name."""
    if name not in suites():
        raise unknown("suite", name, suites())
    return [task for task in _registry().values() if task.suite == name]
