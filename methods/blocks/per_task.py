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
        """As the task's module; MethodError where no task is set, or one that was not there at attaching."""
        return self[known(context.current(), tuple(self))](*inputs)


def known(task: str | None, tasks: tuple[str, ...]) -> str:
    """``task`` if it is one of ``tasks``; MethodError with what to do otherwise."""
    if task is None:
        raise MethodError(
            "this method holds weights per task: run the model inside `with methods.core.context.task(NAME):`"
        )
    if task not in tasks:
        raise MethodError(f"no weights for task {task!r}: the method was attached for {', '.join(tasks)}")
    return task
