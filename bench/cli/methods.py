"""``methods``: names, parameters, explanations."""

import argparse
from functools import lru_cache
from typing import Any

from bench.cli.options import add_format, add_settings, show, word
from bench.config import parse_setting
from bench.errors import UsageError

EXAMPLES = {
    "methods": "example: python -m bench methods --backbone t5-base --suite video-text --format json\n"
    "         python -m bench methods --explain vl-pet-large --set gate=small"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--backbone", default="bart-base", help="backbone (bart-base)")
    parser.add_argument("--suite", default="image-text", help="suite, for the width of its features (image-text)")
    parser.add_argument("--all", action="store_true", help="also our own combinations, adaptations and HF PEFT's")
    parser.add_argument("--explain", type=word, metavar="NAME", help="print what a method is and what it places where")
    add_settings(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    import methods
    from bench import suites

    tasks = suites.get(arguments.suite).official_tasks
    columns = feature_columns(arguments.backbone, arguments.suite)
    if arguments.explain:
        print(_explained(arguments, columns, tasks))
        return 0
    if arguments.settings:
        raise UsageError("--set goes with --explain NAME")
    chosen = [methods.get(name) for name in methods.names()]
    show(
        [_row(c, arguments.backbone, columns, tasks) for c in chosen if c.entry.listed or arguments.all],
        arguments.format,
    )
    return 0


def _row(chosen: Any, backbone: str, columns: int, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters of a method and what can be done with it, as a row of the list."""
    from bench import backbones

    counted = count(backbone, chosen.name, columns, {}, tasks)
    spec = chosen.spec(backbones.shape(backbone))
    return {
        "method": chosen.name,
        "trainable": counted.trainable,
        "total": counted.total,
        "percent": round(counted.percent, 4),
        "merges": spec.mergeable,
        "per task": spec.per_task,
        "cached decoding": spec.exact_with_cache,
        "encoder only": spec.encoder_only,
    }


def _explained(arguments: argparse.Namespace, columns: int, tasks: tuple[str, ...]) -> str:
    """Return what a method is, the values of its options on this backbone, and what is placed where."""
    import methods
    from bench import backbones

    overrides = dict(parse_setting(item) for item in arguments.settings)
    chosen = methods.get(arguments.explain, **overrides)
    skeleton = _skeleton(arguments.backbone, columns)
    handle = methods.attach(skeleton, chosen, tasks=tasks)
    options = ", ".join(f"{key}={value}" for key, value in chosen.options(backbones.shape(arguments.backbone)).items())
    text = f"{chosen.name} on {arguments.backbone}, {arguments.suite}\n\n{chosen.describe}\n\noptions: {options}\n\n"
    text += methods.explain(handle)
    handle.detach()
    return text


def feature_columns(backbone: str, suite: str) -> int:
    """Return the width of a suite's features: the published one, or the miniature world's."""
    from bench import suites

    return suites.get(suite).columns(miniature=backbone.startswith("mini-"))


def count(backbone: str, method: str, columns: int, overrides: dict[str, Any], tasks: tuple[str, ...]) -> Any:
    """Count a method's parameters on the meta device."""
    import methods

    handle = methods.attach(_skeleton(backbone, columns), methods.get(method, **overrides), tasks=tasks)
    counted = handle.count()
    handle.detach()
    return counted


@lru_cache(maxsize=4)
def _skeleton(backbone: str, columns: int) -> Any:
    """Return a backbone on the meta device, to which methods are attached and detached again."""
    from bench import backbones

    return backbones.build(backbone, feat_dim=columns, device="meta")
