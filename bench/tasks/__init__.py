"""The tasks, one file each. A new task is a new module here that defines ``TASK``, or an entry point
``vlpet_bench.tasks``.

>>> from bench import tasks
>>> tasks.names("image-text")
['vqa', 'gqa', 'nlvr', 'caption']
"""

from functools import lru_cache

from bench.errors import unknown
from bench.plugins import Registry, discover
from bench.tasks.task import Decode, Example, Task, TaskScores

__all__ = ["Decode", "Example", "Task", "TaskScores", "get", "names"]


@lru_cache
def _registry() -> Registry[Task]:
    return discover(Task, __name__, __path__, "TASK", "vlpet_bench.tasks", order=lambda task: task.order)


def names(suite: str | None = None) -> list[str]:
    """Return the names of all tasks, or of one suite's: the built-in ones in the official order, then those of
    plug-ins."""
    return [task.name for task in _registry().entries.values() if suite in (None, task.suite)]


def get(name: str) -> Task:
    """Return a task; UsageError with near matches for an unknown name."""
    if name not in _registry().entries:
        raise unknown("task", name, names())
    return _registry().entries[name]
