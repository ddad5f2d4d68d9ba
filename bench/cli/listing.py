"""``tasks`` and ``backbones``: what is registered."""

import argparse

from bench.cli.options import add_format, show

EXAMPLES = {"tasks": "example: python -m bench tasks --format csv", "backbones": "example: python -m bench backbones"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print the list."""
    show(_tasks() if verb == "tasks" else _backbones(), arguments.format)
    return 0


def _tasks() -> list[dict[str, object]]:
    from bench import tasks

    found = [tasks.get(name) for name in tasks.names()]
    return [
        {
            "task": t.name,
            "suite": t.suite,
            "label": t.label,
            "metric": t.metric,
            "reported on": t.report_split,
            "prompt": t.prompt,
        }
        for t in found
    ]


def _backbones() -> list[dict[str, object]]:
    from bench import backbones

    rows: list[dict[str, object]] = []
    for name in backbones.names():
        s = backbones.shape(name)
        layers = f"{s.encoder_layers}+{s.decoder_layers}"
        rows.append({"backbone": name, "family": s.family, "width": s.d, "layers": layers, "vocabulary": s.vocab})
    return rows
