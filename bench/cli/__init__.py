"""The command line: verbs that parse, call and print. Nothing heavy is imported before a verb runs.

Exit codes: 0 all done, 1 some runs are not done, 2 bad input, 130 interrupted.
"""

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

from bench.cli.processes import are_several, perform_together
from bench.errors import UsageError, did_you_mean
from methods.core.errors import MethodError

#: verb -> the module of this package that implements it, and its line in the help. A module has
#: ``add(parser, verb)``, which adds the options, and ``call(arguments, verb)``, which returns the exit code.
VERBS = {
    "sweep": ("sweep", "run a grid of backbones, methods, suites and seeds; print its tables"),
    "ablate": ("ablate", "run an ablation and print the differences to its base; --list describes them"),
    "plan": ("plan", "say what runs do and take, and how many seeds a comparison needs, before anything is run"),
    "tune": ("tune", "search settings on validation scores, with equal budgets; --ledger shows what was tried"),
    "run": ("run", "run one cell in this process"),
    "report": ("report", "write tables, plots and a page from the records of a sweep"),
    "compare": ("compare", "say which of a few methods of a sweep is better, how sure that is, and what decides it"),
    "verify": ("verify", "compare every cell of a table in a .tex or .md file with the records"),
    "status": ("status", "show the state of every run of a sweep"),
    "watch": ("status", "show the state of every run of a sweep, live"),
    "logs": ("jobs", "print the log of a run"),
    "show": ("show", "show everything about one run, one of its tasks, or one example"),
    "cancel": ("jobs", "stop runs, with a checkpoint, wherever they are"),
    "retry": ("jobs", "let failed, parked or cancelled runs be tried again"),
    "score": ("score", "score kept predictions, or a file of anybody's, without training"),
    "list": ("inventory", "list the sweeps of a results folder: what they are, state, size, date"),
    "du": ("inventory", "show the room that runs take, and for what"),
    "rm": ("remove", "remove runs, or a sweep with its runs; asks before, and refuses what somebody works on"),
    "merge": ("merge", "copy the runs and sweeps of other results folders; nothing is overwritten"),
    "export": ("export", "write a finished run's weights for others, or all results as one table"),
    "clean": ("clean", "list what killed processes have left in the run directories; --yes removes it"),
    "import-official": ("checkpoints", "make a run directory of a released checkpoint of the official code"),
    "evaluate": ("checkpoints", "predict and score with the kept weights of a run directory, without training"),
    "predict": ("predict", "predict a split with the kept weights of a run; files for evaluation servers"),
    "methods": ("methods", "list the methods with their parameters, or explain one"),
    "tasks": ("listing", "list the tasks"),
    "backbones": ("listing", "list the backbones"),
    "data": ("data", "check a data root, or write the miniature one"),
    "mini": ("mini", "pretrain the miniature backbones on text"),
    "completion": ("completion", "print a script with which a shell completes verbs and options"),
    "doctor": ("doctor", "show versions, device, Java and folders; --real tries everything that a real run needs"),
}
#: Verbs that the suite itself calls, in worker processes; the overview does not list them.
INTERNAL_VERBS = {"work": ("work", "work through the runs of a pack file")}
LONGEST_MESSAGE = 2000  # characters
RESUMABLE = ("sweep", "ablate", "tune", "run")


class Parser(argparse.ArgumentParser):
    """A parser whose errors name near matches and exit with code 2 in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all words.

        Raises:
            UsageError: an unknown flag, with near matches, or a value that its option does not take.
        """
        arguments, rest = self.parse_known_args(words)
        if rest:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise UsageError(f"{self.prog}: unknown argument {rest[0][:80]!r}{did_you_mean(rest[0], flags)}")
        return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code. ``words`` are those after ``python -m bench``, by default this process's.

    A verb finds its own command line in ``arguments.argv`` (the words) and ``arguments.command`` (one shell command).
    What a terminal cannot show is replaced. That the reader of the output has gone, as in ``... | head``, is no fault.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *place: f"warning: {message}\n"
    words = list(sys.argv[1:] if words is None else words)
    try:
        try:
            if are_several():
                return perform_together(words, lambda: _run(words))
            return _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 0


def _run(words: list[str]) -> int:
    try:
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            return 0
        if words[0] == "--version":
            from bench import __version__

            print(f"vlpet-bench {__version__}")
            return 0
        from bench.cli import output

        verb, rest = words[0], words[1:]
        verbs = VERBS | INTERNAL_VERBS
        if verb not in verbs:
            raise UsageError(f"unknown verb {verb[:80]!r}{did_you_mean(verb, VERBS)}")
        module_name, description = verbs[verb]
        module = import_module(f"bench.cli.{module_name}")
        parser = Parser(
            prog=f"python -m bench {verb}",
            description=description,
            epilog=getattr(module, "EXAMPLES", {}).get(verb, ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_verb(parser, verb, module)
        arguments = parser.parse_all(rest)
        arguments.argv = words
        arguments.command = shlex.join(["python", "-m", "bench", *words])
        with output.messages(arguments.log_file, arguments.verbose, arguments.command):
            return _call(module, arguments, verb)
    except (UsageError, MethodError) as fault:
        return _bad_input(fault)


def add_verb(parser: argparse.ArgumentParser, verb: str, module: Any) -> None:
    """Add the options of a verb, which a module of this package implements, to a parser."""
    from bench.cli import output

    module.add(parser, verb)
    output.add(parser)


def _call(module: Any, arguments: argparse.Namespace, verb: str) -> int:
    try:
        return int(module.call(arguments, verb))
    except (UsageError, MethodError) as fault:
        if arguments.verbose:
            traceback.print_exc()
        return _bad_input(fault)
    except KeyboardInterrupt:
        hint = f"; everything done so far is kept. Go on with: {arguments.command}" if verb in RESUMABLE else ""
        print(f"interrupted{hint}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception:
        if arguments.log_file:
            traceback.print_exc()  # while messages go to the file
        raise


def _bad_input(fault: Exception) -> int:
    print(f"error: {_one_line(fault)}", file=sys.stderr)
    return 2


def _one_line(fault: Exception) -> str:
    """Return the message of an error without what moves the cursor of a terminal, and not longer than anybody reads."""
    text = " ".join(str(fault).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 4]} ..."


def _discard_output() -> None:
    """Send what is still to be written nowhere: the interpreter flushes once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def overview() -> str:
    lines = [f"  {verb:<15} {about}" for verb, (_, about) in VERBS.items()]
    return "\n".join(
        [
            "usage: python -m bench VERB [options]",
            "",
            "Benchmark and ablation suite for parameter-efficient tuning of vision-and-language models.",
            "",
            *lines,
            "",
            "python -m bench VERB --help shows a verb's options with an example. Start with: python -m bench sweep",
        ]
    )
