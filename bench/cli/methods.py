"""``methods``: names, parameters, explanations."""

import argparse
from functools import lru_cache
from typing import Any

from bench.cli.options import add_format, show

EXAMPLES = {
    "methods": "example: python -m bench methods --backbone t5-base --suite video-text --format json\n"
    "         python -m bench methods --explain vl-pet-large"
}
PUBLISHED_COLUMNS = {"image-text": 2048, "video-text": 512}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    parser.add_argument("--backbone", default="bart-base", help="backbone (bart-base)")
    parser.add_argument("--suite", default="image-text", help="suite, for the width of its features (image-text)")
    parser.add_argument("--explain", metavar="NAME", help="print what a method places where")
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print the list."""
    import methods
    from bench import backbones, tasks

    tasks.suite(arguments.suite)
    columns = feature_columns(arguments.backbone, arguments.suite)
    if arguments.explain:
        skeleton = backbones.build(arguments.backbone, feat_dim=columns, device="meta")
        print(methods.explain(methods.attach(skeleton, methods.get(arguments.explain))))
        return 0
    rows = []
    for name in methods.names():
        counted = count(arguments.backbone, name, columns, {}, tuple(tasks.names(arguments.suite)))
        figures = {"trainable": counted.trainable, "total": counted.total, "percent": round(counted.percent, 4)}
        rows.append({"method": name, **figures})
    show(rows, arguments.format)
    return 0


def feature_columns(backbone: str, suite: str) -> int:
    """Return the width of a suite's features: the published one, or the miniature world's."""
    if backbone.startswith("mini-"):
        from bench.mini.features import DIM

        return DIM
    return PUBLISHED_COLUMNS.get(suite, 2048)


def count(backbone: str, method: str, columns: int, overrides: dict[str, Any], tasks: tuple[str, ...]) -> Any:
    """Count a method's parameters on the meta device."""
    import methods

    handle = methods.attach(_skeleton(backbone, columns), methods.get(method, **overrides), tasks=tasks)
    counted = handle.count()
    handle.detach()
    return counted


@lru_cache(maxsize=4)
def _skeleton(backbone: str, columns: int) -> Any:
    """Build a backbone without numbers; methods are attached to it and detached again."""
    from bench import backbones

    return backbones.build(backbone, feat_dim=columns, device="meta")
