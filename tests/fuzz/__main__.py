"""Break inputs and see how the program ends: ``python -m tests.fuzz --seed 1``.

Every case is one mutated input: annotation and feature files of the eight tasks, configuration and environment, or
files of run directories. Each ends with a clear error, a documented tolerance or harmlessly, or else with a traceback,
in silence, with a hang, or unclear (a refusal that names no place, or that of a harmless input). The exit code is 1
where one of the latter is not 0. ``--only ID`` repeats one case and keeps its folder.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLPET_BENCH_CACHE", str(Path(tempfile.gettempdir()) / f"vlpet-bench-fuzz-{os.getuid()}"))

from tests.fuzz import (  # noqa: E402, F401
    annotation_fields,
    annotation_files,
    checkpoints,
    configuration_environment,
    configuration_files,
    configuration_flags,
    evaluated_runs,
    feature_files,
    feature_formats,
    judge,
    run_directories,
)
from tests.fuzz.registry import ENDINGS, MUTATIONS, WRONG, Case, draw, named  # noqa: E402
from tests.fuzz.world import Box, World, warm_up  # noqa: E402

SHORT = 60


def main() -> int:
    """Draw the cases of a seed, or make one again, and print how they end."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=500, help="mutated inputs (500)")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} cases")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="one case again, its folder is kept")
    parser.add_argument("--area", choices=("data", "configuration", "records"), help="only mutations of this area")
    parser.add_argument("--kind", action="append", default=[], help="only this kind of mutation")
    parser.add_argument("--verbose", "-v", action="store_true", help="a line per case")
    wanted = parser.parse_args()
    for name, mutation in list(MUTATIONS.items()):
        if (wanted.area and mutation.area != wanted.area) or (wanted.kind and name not in wanted.kind):
            del MUTATIONS[name]
    cases = [named(i) for i in wanted.only] or list(draw(wanted.seed, SHORT if wanted.short else wanted.cases))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    begun = time.monotonic()
    try:
        world = World(folder)
        warm_up(world)
        results = [(case, _judged(world, case, bool(wanted.only), wanted.verbose)) for case in cases]
    finally:
        if not wanted.only:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(results)
    print(f"\n{len(results)} cases in {time.monotonic() - begun:.0f} s, seed {wanted.seed}")
    return int(any(verdict.ending in WRONG for _, verdict in results))


def _judged(world: World, case: Case, keep: bool, verbose: bool) -> judge.Verdict:
    """Make one case and judge how it ends."""
    box = Box(world, world.folder / "cases" / case.id[:60])
    begun = time.monotonic()
    try:
        plan = case.mutation.apply(box, case.rng)
        verdict = (plan.judge or judge.general)(box, plan, case.mutation.expected)
        if keep:
            for step in plan.steps:
                print(f"in {box.cwd}: python -m bench {' '.join(map(ascii, step.argv))}")
    except Exception as error:
        error.add_note(f"in case {case.id}, whose fault is the harness's or the unmutated program's")
        raise
    finally:
        if not keep:
            box.close()
    if verbose or keep:
        print(f"{time.monotonic() - begun:5.1f} s  {case.id}: {verdict.ending}: {verdict.note!a}", flush=True)
    return verdict


def print_table(results: list[tuple[Case, judge.Verdict]]) -> None:
    """Print the endings by kind of mutation, the tolerances with their reasons, and the cases that went wrong."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for case, verdict in results:
        counts.setdefault((case.mutation.area, case.mutation.kind), Counter())[verdict.ending] += 1
    width = max(len(kind) for _, kind in counts) + 2
    print(f"{'kind of mutation':<{width}}" + "".join(f"{ending:>11}" for ending in ENDINGS))
    for area in ("data", "configuration", "records"):
        rows = {kind: counter for (place, kind), counter in sorted(counts.items()) if place == area}
        if rows:
            print(f"-- {area}")
        for kind, counter in rows.items():
            print(f"{kind:<{width}}" + "".join(f"{counter[ending] or '':>11}" for ending in ENDINGS))
    total = sum(counts.values(), Counter())
    print(f"{'total':<{width}}" + "".join(f"{total[ending]:>11}" for ending in ENDINGS))
    tolerated = {case.mutation.kind: case.mutation.why for case, verdict in results if verdict.ending == "tolerance"}
    if tolerated:
        print("\ndocumented tolerances:")
    for kind, why in sorted(tolerated.items()):
        print(f"  {kind}: {why}")
    wrong = [(case, verdict) for case, verdict in results if verdict.ending in WRONG]
    for ending in WRONG:
        chosen = [(case, verdict) for case, verdict in wrong if verdict.ending == ending]
        if chosen:
            print(f"\n{ending} ({len(chosen)}); repeat one with: python -m tests.fuzz --only ID")
        for case, verdict in chosen:
            print(f"  {case.id}: {ascii(verdict.note)[1:-1]}")


if __name__ == "__main__":
    sys.exit(main())
