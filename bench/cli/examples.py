"""``data show``: examples of a task, with their pictures."""

import argparse
from pathlib import Path

from bench.cli.options import count, word
from bench.errors import UsageError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only ``show`` reads."""
    group = parser.add_argument_group("show")
    group.add_argument("--task", type=word, metavar="T", help="the task whose examples are shown")
    group.add_argument("--split", type=word, metavar="S", help="of which split (the one that tables report)")
    group.add_argument("--number", type=count, default=10, metavar="N", help="examples, evenly spread (10)")


def call(arguments: argparse.Namespace) -> int:
    """Print examples of a task: what the model reads, what it should say, and the files to look at."""
    from bench import suites, tasks
    from bench.data.picture_index import PictureIndex
    from bench.data.roots import MINI, locate

    if not arguments.task:
        raise UsageError("data show: say of which task with --task T, for example --task vqa")
    task = tasks.get(arguments.task)
    split = arguments.split or task.report_split
    if split not in task.splits:
        raise UsageError(f"--split {split}: {task.name} has {', '.join(task.splits)}")
    given: Path = arguments.root or Path(MINI)
    suite = next((name for name in suites.names() if task.name in suites.get(name).official_tasks), "")
    root = locate(MINI, suite, {}) if str(given) == MINI and not given.exists() else given
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    examples = task.read(root, split)
    index = PictureIndex(root, arguments.images)
    shown = min(arguments.number, len(examples))
    print(f"{task.label}: {shown} of {len(examples):,} examples of {task.splits[split]}, in {root}")
    for position in range(shown):
        example = examples[position * len(examples) // shown]
        print(f"\n{example.id}\n  source   {task.source(example, True)}")
        answers = ", ".join(text if score == 1 else f"{text} ({score:g})" for text, score in example.answers)
        print(f"  targets  {answers or 'not public'}")
        for visual in example.visual:
            pictures = index.find(visual)
            print(f"  {_pictures(pictures) if pictures else f'features {root / visual} (its picture is not here)'}")
    return 0


def _pictures(pictures: list[Path]) -> str:
    if len(pictures) == 1:
        return f"picture  {pictures[0]}"
    return f"frames   {pictures[0].parent} ({len(pictures)} pictures)"
