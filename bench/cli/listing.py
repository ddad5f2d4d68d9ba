"""``tasks`` and ``backbones``: what is registered."""

import argparse

from bench.cli.options import add_format, show

EXAMPLES = {"tasks": "example: python -m bench tasks --format csv", "backbones": "example: python -m bench backbones"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    show(_tasks() if verb == "tasks" else _backbones(), arguments.format)
    return 0


def _tasks() -> list[dict[str, object]]:
    from bench import suites, tasks

    official = {name for suite in suites.names() for name in suites.get(suite).official_tasks}
    return [
        {
            "task": task.name,
            "suite": task.suite,
            "label": task.label,
            "metric": task.metric,
            "edition": task.metric_edition,
            "reported on": task.report_split,
            "prompt": task.prompt,
            "version": task.version,
            "official": task.name in official,
        }
        for task in map(tasks.get, tasks.names())
    ]


def _backbones() -> list[dict[str, object]]:
    from bench import backbones

    rows: list[dict[str, object]] = []
    for name in backbones.names():
        s = backbones.shape(name)
        layers = f"{s.encoder_layers}+{s.decoder_layers}"
        rows.append({"backbone": name, "family": s.family, "width": s.d, "layers": layers, "vocabulary": s.vocab})
    return rows
