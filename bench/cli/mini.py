"""``mini pretrain``: make the miniature backbones and the miniature encoder again."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cli.options import count, path

EXAMPLES = {
    "mini": "example: python -m bench mini pretrain mini-bart --out my-mini-bart --seed 1\n"
    "         python -m bench mini pretrain encoder --out my-encoder"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("what", choices=("pretrain",), help="train a backbone on text only, or the encoder on pictures")
    parser.add_argument("name", choices=("mini-bart", "mini-t5", "encoder"), help="which one")
    parser.add_argument("--out", type=path, help="folder to write (./NAME-SEED)")
    parser.add_argument("--steps", type=count, help="updates (those of the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="seed (0, the shipped one's)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.errors import UsageError
    from bench.toml_files import shortened

    out = arguments.out or Path(f"{arguments.name}-{arguments.seed}")
    if not 0 <= arguments.seed < 2**32:
        raise UsageError(f"--seed {shortened(arguments.seed)}: expected a seed from 0 to 2^32 - 1")
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another folder with --out")
    return (_encoder if arguments.name == "encoder" else _backbone)(arguments, out)


def _backbone(arguments: argparse.Namespace, out: Path) -> int:
    from bench.mini.pretrain import STEPS, pretrain

    steps = arguments.steps or STEPS
    log = pretrain(arguments.name, out, steps=steps, seed=arguments.seed, progress=_printer(steps))
    print(f"held-out exact answers (%): {log['held_out_percent']}")
    print(f"wrote {out} ({log['parameters']:,} parameters); use it with --backbone {shlex.quote(str(out))}")
    return 0


def _encoder(arguments: argparse.Namespace, out: Path) -> int:
    from bench.mini.pretrain_encoder import STEPS, pretrain

    steps = arguments.steps or STEPS
    log = pretrain(out, steps=steps, seed=arguments.seed, progress=_printer(steps))
    weights = shlex.quote(str(out / "model.safetensors"))
    print(f"held-out restoration error: {log['held_out_error']}")
    print(f"wrote {out} ({log['parameters']:,} parameters); use it with --encoder mini --weights {weights}")
    return 0


def _printer(steps: int) -> Callable[[dict[str, Any]], None]:
    """Return what prints a line about how far a training is."""

    def show(entry: dict[str, Any]) -> None:
        left = entry["seconds"] / entry["step"] * (steps - entry["step"])
        print(
            f"step {entry['step']}/{steps}  loss {entry['loss']:.3f}  {entry['seconds']:.0f} s  {left:.0f} s left",
            entry.get("held_out_percent", ""),
            flush=True,
        )

    return show
