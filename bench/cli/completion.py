"""``completion``: what a shell completes, made from the parsers of the verbs."""

import argparse
from importlib import import_module

EXAMPLES = {
    "completion": "example: python -m bench completion bash > ~/.local/share/bash-completion/completions/vlpet-bench"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "tcsh"), help="the shell; it completes the command vlpet-bench"
    )


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print the script. The verbs have parsers of their own, so that none is made in vain; one for all is made here."""
    import shtab

    from bench.cli import VERBS, add_verb

    parser = argparse.ArgumentParser("vlpet-bench", allow_abbrev=False)
    verbs = parser.add_subparsers()
    for name, (module_name, about) in VERBS.items():
        add_verb(verbs.add_parser(name, help=about), name, import_module(f"bench.cli.{module_name}"))
    print(shtab.complete(parser, arguments.shell))
    return 0
