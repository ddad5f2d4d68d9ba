"""What tuning may look at: never the split that is reported.

A task whose official validation split is not the one that its tables report is tuned on that split. GQA and the video
tasks report their validation split (quirk GQA-TESTDEV, and the video test sets have no public labels): these are tuned
on a tenth of their training images or clips, chosen by name and so the same for all tasks that share them, on which
runs that tune do not train.
"""

import hashlib
from pathlib import Path

from bench.tasks import Example, Task

PARTS = 10  # one of so many images or clips is held out
TRAIN, TUNING = "train", "tuning"


def has_own_validation(task: Task) -> bool:
    """Return whether the task has a validation split that is not the one its tables report."""
    return "validation" in task.splits and task.report_split != "validation"


def name(task: Task) -> str:
    """Return the name that records give to the split that the task is tuned on."""
    return "validation" if has_own_validation(task) else "held out of train"


def is_held_out(example: Example) -> bool:
    """Return whether the first image or clip of an example is among those held out.

    >>> sum(is_held_out(Example(str(i), "", (f"clips/{i}.npz",))) for i in range(1000))
    92
    """
    return hashlib.sha256(example.visual[0].encode()).digest()[0] % PARTS == 0


def read(task: Task, root: Path, split: str) -> list[Example]:
    """Read the TRAIN or the TUNING part of a task, for a run that tunes."""
    if has_own_validation(task):
        return task.read(root, "validation" if split == TUNING else split)
    return [example for example in task.read(root, TRAIN) if is_held_out(example) == (split == TUNING)]
