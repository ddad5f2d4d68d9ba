"""``plan``: before anything is spent, what runs do and take, how many seeds a comparison needs, and what they cost."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from bench.cli.options import add_execution, add_folders, add_format, add_grid, execution, show
from bench.cli.selection import planned
from bench.errors import UsageError

EXAMPLES = {
    "plan": "example: python -m bench plan granularity --detect 0.5\n"
    "         python -m bench plan paper-table2-bart --data official=/data/datasets\n"
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
    from bench.cli.data import show_progress
    from bench.cli.figures import plan_figures, show_figures
    from bench.cli.pricing import priced, summary
    from bench.cli.report import plan
    from bench.example_scores import example_scores, missing_hint
    from bench.planning.counts import ExampleCounts
    from bench.records import load_frame
    from bench.report.power import MOST, power_plans
    from bench.report.run_entries import join
    from bench.sweep.cost_model import CostModel
    from bench.sweep.expand import expand

    if not 0 < arguments.detect < math.inf or not 0 < arguments.power < 1:
        raise UsageError("--detect wants a difference above 0, --power a probability between 0 and 1")
    sweep = planned(arguments)
    cells = expand(sweep)
    run_execution = execution(arguments)
    cost_model = CostModel(arguments.results, ExampleCounts(run_execution.data, show_progress))

    def price(these: Sequence[Any]) -> list[dict[str, Any]]:
        return priced(these, arguments.results, run_execution, cost_model=cost_model)

    figures = []
    if arguments.format != "csv":
        figures = plan_figures(cells, cost_model.counts, cost_model, show_progress)
    frame = load_frame(arguments.results, missing_ok=True)
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
    if arguments.format == "json":
        print(json.dumps({"figures": figures, "seeds": rows, "price": price(cells)}, indent=1))
        return 0
    if arguments.format == "csv":
        show(rows, "csv")
        return 0
    show_figures(figures)
    if not rows:
        print("no variance is stored: run at least two methods or cells with two seeds each, then plan again")
        print("\n".join(summary(price(cells))))
        return 0
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
        cells = expand(sweep.model_copy(update={"seeds": more, "seeds_of": {}}))
    print("\n".join(summary(price(cells))))
    return 0


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
