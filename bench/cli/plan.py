"""``plan``: before anything is spent, how many seeds a comparison needs, and what they cost."""

import argparse
import math
import sys
from typing import Any

from bench.cli.options import add_execution, add_folders, add_format, add_grid, execution, show
from bench.cli.selection import planned
from bench.errors import UsageError

EXAMPLES = {
    "plan": "example: python -m bench plan granularity --detect 0.5\n"
    "         python -m bench plan my_sweep.toml --detect 1 --power 0.9 --format json"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_execution(parser)
    add_folders(parser)
    parser.add_argument("--detect", type=float, default=1.0, metavar="GAP", help="difference to detect, in points (1)")
    parser.add_argument("--power", type=float, default=0.8, help="probability of detecting it if it exists (0.8)")
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.cli.report import plan
    from bench.example_scores import example_scores, missing_hint
    from bench.records import load_results
    from bench.report.power import MOST, power_plans
    from bench.report.run_entries import join
    from bench.sweep.expand import expand

    if not 0 < arguments.detect < math.inf or not 0 < arguments.power < 1:
        raise UsageError("--detect wants a difference above 0, --power a probability between 0 and 1")
    sweep = planned(arguments)
    cells = expand(sweep)
    frame = load_results(arguments.results, missing_ok=True)
    rows_of_plan = plan(cells, arguments.results)
    examples = example_scores(arguments.results, (cell["run_id"] for cell in rows_of_plan)) if sweep.is_ablation else {}
    if sweep.is_ablation and (hint := missing_hint(arguments.results, (cell["run_id"] for cell in rows_of_plan))):
        print(f"note: {hint}", file=sys.stderr)
    rows, seeds_for_average = [], 0
    for seed_plan in power_plans(join(frame, rows_of_plan, examples), join(frame, [])):
        for key, variance in seed_plan.variances.items():
            needed = variance.seeds_needed(arguments.detect, arguments.power)
            if key == "average":
                seeds_for_average = max(seeds_for_average, needed or 0)
            rows.append(
                {
                    "backbone": seed_plan.backbone,
                    "suite": seed_plan.suite,
                    "base": seed_plan.base or "any pair",
                    "task": key,
                    "sd_seeds": round(variance.seed**0.5, 3),
                    "sd_examples": round(variance.example**0.5, 3) if variance.examples else None,
                    "seeds_needed": needed,
                    "detectable": _rounded(variance.detectable_gap(len(sweep.seeds), arguments.power)),
                    "from": seed_plan.source,
                }
            )
    if arguments.format != "table":
        show(rows, arguments.format)
        return 0
    if not rows:
        print("no variance is stored: run at least two methods or cells with two seeds each, then plan again")
        return _price(cells, arguments)
    show([{k: v for k, v in row.items() if k != "from"} for row in rows], "table")
    print(
        f"\nseeds_needed: to tell a difference of {arguments.detect:g} from none with probability {arguments.power:g}, "
        f"empty: not even {MOST} seeds do.\ndetectable: what the planned {len(sweep.seeds)} "
        f"can tell. Variances come from {', '.join(sorted({row['from'] for row in rows}))}."
    )
    if seeds_for_average > len(sweep.seeds):
        candidates = dict.fromkeys([*sweep.seeds, *range(1, seeds_for_average + 1)])
        more = tuple(candidates)[:seeds_for_average]
        print(f"with {seeds_for_average} seeds:")
        return _price(expand(sweep.model_copy(update={"seeds": more})), arguments)
    return _price(cells, arguments)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _price(cells: list[Any], arguments: argparse.Namespace) -> int:
    """Print the number of runs that are left, and what they cost."""
    from bench.cli.pricing import priced, summary

    print("\n".join(summary(priced(cells, arguments.results, execution(arguments)))))
    return 0
