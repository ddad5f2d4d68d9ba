"""Where the runs of a sweep are executed: the options, and the choice where they leave it open."""

import argparse
from collections.abc import Sequence

from bench.cli.options import count, path
from bench.cli.processes import are_several
from bench.config import Execution, Run

LOCAL_JOBS = 2


def add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        choices=("inline", "local", "slurm"),
        help="this process, workers of this machine, or jobs of a cluster (a worker per core where all runs are "
        "miniature and have a thousand updates to do, else this process)",
    )
    parser.add_argument(
        "--profile", type=path, metavar="FILE", help="what a Slurm job asks for: a TOML file, or gpu, cpu, ... by name"
    )
    parser.add_argument(
        "--jobs", type=count, metavar="N", help=f"workers of this machine ({LOCAL_JOBS}; one per core for the above)"
    )


def choose(arguments: argparse.Namespace, runs: Sequence[Run], execution: Execution) -> None:
    """Fill in the executor and the number of workers that the command line leaves open, for runs that are to do."""
    if arguments.executor is None and are_several():
        arguments.executor = "inline"
    elif arguments.executor is None:
        from bench.planning.counts import ExampleCounts
        from bench.sweep.cost_model import CostModel
        from bench.sweep.local_workers import worthwhile_workers

        costs = CostModel(arguments.results, ExampleCounts(execution.data))
        workers = worthwhile_workers(runs, execution, lambda run: costs.steps(run) or 0)
        arguments.executor = "local" if workers > 1 else "inline"
        arguments.jobs = arguments.jobs or workers
    arguments.jobs = arguments.jobs or LOCAL_JOBS
