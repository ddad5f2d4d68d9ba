"""``mini pretrain``: make the miniature backbones again."""

import argparse
import shlex
from pathlib import Path

from bench.cli.options import count, path

EXAMPLES = {"mini": "example: python -m bench mini pretrain mini-bart --out my-mini-bart --seed 1"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("what", choices=("pretrain",), help="train a backbone on text only")
    parser.add_argument("name", choices=("mini-bart", "mini-t5"), help="which one")
    parser.add_argument("--out", type=path, help="folder to write (./NAME-SEED)")
    parser.add_argument("--steps", type=count, help="updates (those of the shipped backbone)")
    parser.add_argument("--seed", type=int, default=0, help="seed (0, the shipped backbone's)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.errors import UsageError
    from bench.mini.pretrain import STEPS, pretrain
    from bench.toml_files import shortened

    out = arguments.out or Path(f"{arguments.name}-{arguments.seed}")
    if not 0 <= arguments.seed < 2**32:
        raise UsageError(f"--seed {shortened(arguments.seed)}: expected a seed from 0 to 2^32 - 1")
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another folder with --out")
    steps = arguments.steps or STEPS
    log = pretrain(
        arguments.name,
        out,
        steps=steps,
        seed=arguments.seed,
        progress=lambda p: print(
            f"step {p['step']}/{steps}  loss {p['loss']:.3f}  {p['seconds']:.0f} s"
            f"  about {p['seconds'] / p['step'] * (steps - p['step']):.0f} s left",
            p.get("held_out_percent", ""),
            flush=True,
        ),
    )
    print(f"held-out exact answers (%): {log['held_out_percent']}")
    print(f"wrote {out} ({log['parameters']:,} parameters); use it with --backbone {shlex.quote(str(out))}")
    return 0
