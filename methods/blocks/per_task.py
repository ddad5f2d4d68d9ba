"""One module per task."""

from collections.abc import Callable

from torch import Tensor, nn

from methods.core import context
from methods.core.errors import MethodError


class PerTask(nn.ModuleDict):
    """Holds one module per task and runs that of the current task (:func:`methods.core.context.task`)."""

    def __init__(self, tasks: tuple[str, ...], build: Callable[[], nn.Module]) -> None:
        super().__init__({task: build() for task in tasks})

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the current task's module with ``inputs``; raises MethodError as :func:`current_task_of` does."""
        return self[current_task_of(tuple(self))](*inputs)


def current_task_of(tasks: tuple[str, ...]) -> str:
    """Return the current task.

    Raises:
        MethodError: no task is set, or one that is not among ``tasks``, those for which the method was attached.
    """
    task = context.current_task()
    if task is None:
        raise MethodError(
            "this method holds weights per task: run the model inside `with methods.core.context.task(NAME):`"
        )
    if task not in tasks:
        raise MethodError(f"no weights for task {task!r}: the method was attached for {', '.join(tasks)}")
    return task
