"""The check of a data root, and the check of what runs will read."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

from bench import suites
from bench.config import Execution, Run
from bench.data import held_out
from bench.data.check_cache import CheckCache
from bench.data.feature_inspection import FeatureInspector, FeatureShapes, disagreement
from bench.data.roots import is_synthetic, locate
from bench.errors import UsageError
from bench.files import require_file
from bench.suites import Suite
from bench.tasks import Task
from bench.tasks.files import ADVICE
from bench.tasks.tolerance import read_with_tolerances

Progress = Callable[[str], None]  # receives a line on where the check is, "" at its end
SHOWN_EVERY = 500  # files between two lines of progress


@dataclass
class SplitReport:
    """What the check says about one split of a task.

    Attributes:
        task, split: names of the task and of its logical split.
        examples: the number of examples.
        tolerated: how often each kind of oddity was accepted, by name (:class:`bench.tasks.tolerance.Tolerance`).
        shapes: the shapes of the feature files.
        fault: the first fault, "" where there is none.
    """

    task: str
    split: str
    examples: int = 0
    tolerated: dict[str, int] = field(default_factory=dict)
    shapes: FeatureShapes = field(default_factory=FeatureShapes)
    fault: str = ""

    @property
    def name(self) -> str:
        return f"{self.task} {self.split}"


def check(root: Path, suite: str, *, n_boxes: int, progress: Progress = lambda line: None) -> list[SplitReport]:
    """Read every split of every task of a suite, and every feature file that they need.

    Args:
        root: the data root.
        suite: name of the suite.
        n_boxes: the number of visual tokens of the recipe that the data are checked for.
        progress: receives lines on where the check is.
    """
    chosen = suites.get(suite)
    splits = [(task, split) for task in chosen.tasks for split in task.splits]
    reports = _read_splits(root, chosen, splits, complete=True, progress=progress)
    usable: list[SplitReport] = []
    for report in reports:
        if not report.fault:
            report.fault = disagreement(root, [other.shapes for other in [*usable, report]])
        if not report.fault:
            report.fault = _pooling_fault(root, report.shapes.rows, n_boxes)
        if not report.fault:
            usable.append(report)
    return reports


def official_size(root: Path, report: SplitReport) -> int | None:
    """Return the number of examples of a split in the published files; None where it is the same, or not known."""
    from bench import tasks

    official = tasks.get(report.task).official_sizes.get(report.split, report.examples)
    return None if is_synthetic(root) or official == report.examples else official


def check_for_runs(runs: Iterable[Run], execution: Execution, progress: Progress = lambda line: None) -> None:
    """Check everything that runs will read: annotations, values, and presence and shape of the features.

    The splits that they train on, report and validate on are read as a whole, their feature files too unless these are
    larger than 4 GiB: of such a split every file is looked for and 1,000 are read, the others are checked when they are
    loaded. What was right is remembered in the cache folder as long as no file changes.

    Raises:
        UsageError: a data root is not there, or data that a run needs are faulty; the first fault of every split.
    """
    by_root: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_root.setdefault((run.data, run.suite), []).append(run)
    faults: list[str] = []
    for (data, suite), group in by_root.items():
        faults += _faults_of(locate(data, suite, execution.data), suites.get(suite), group, progress)
    if len(faults) > 1:
        raise UsageError("\n  ".join([f"the data have {len(faults)} faults; nothing was run", *faults]))
    if faults:
        raise UsageError(faults[0])


def _faults_of(root: Path, suite: Suite, runs: Sequence[Run], progress: Progress) -> list[str]:
    for pattern in suite.annotations:  # all of them are read for the fingerprint
        for path in sorted(root.glob(pattern)):
            require_file(path, ADVICE)
    needed = dict.fromkeys((task, split) for run in runs for task in run.task_list for split in splits_of(run, task))
    reports = {(r.task, r.split): r for r in _read_splits(root, suite, list(needed), complete=False, progress=progress)}
    faults = [f"{report.name}: {report.fault}" for report in reports.values() if report.fault]
    for run in {(run.tasks, run.recipe.n_boxes, run.recipe.n_frames): run for run in runs}.values():
        parts = [reports[task.name, split] for task in run.task_list for split in splits_of(run, task)]
        shapes = [report.shapes for report in parts if not report.fault]
        rows = {run.recipe.n_frames: ""} if suite.features.kind == "frames" else _merged_rows(shapes)
        fault = disagreement(root, shapes) or _pooling_fault(root, rows, run.recipe.n_boxes)
        if fault and fault not in faults:
            faults.append(fault)
    return faults


def splits_of(run: Run, task: Task) -> list[str]:
    """Return the logical splits of a task that a run reads."""
    if run.recipe.evaluate == "tuning":
        return ["train", "validation"] if held_out.has_own_validation(task) else ["train"]
    validation = ["validation"] if run.recipe.validate_ == "epoch" else []
    return list(dict.fromkeys(["train", *validation, task.report_split]))


def _read_splits(
    root: Path, suite: Suite, splits: Sequence[tuple[Task, str]], *, complete: bool, progress: Progress
) -> list[SplitReport]:
    """Return a report on each split, in their order; one that is right and complete enough comes from the cache."""
    cache = CheckCache(root, suite)
    inspector = FeatureInspector(root, suite.features.kind)
    reports = []
    for task, split in splits:
        report = SplitReport(task.name, split)
        content = None if complete else cache.get(task, split, inspector.listing)
        if content is not None:
            content["shapes"] = FeatureShapes(
                **content["shapes"]
                | {kind: {int(n): name for n, name in content["shapes"][kind].items()} for kind in ("rows", "columns")}
            )
            reports.append(SplitReport(**content))
            continue
        try:
            _read_split(report, root, task, inspector, complete, progress)
        except UsageError as fault:
            report.fault = str(fault)
        else:
            cache.put(task, split, report, report.shapes.folders, inspector.listing)
        reports.append(report)
    cache.save()
    progress("")
    return reports


def _read_split(
    report: SplitReport, root: Path, task: Task, inspector: FeatureInspector, complete: bool, progress: Progress
) -> None:
    """Fill a report; UsageError for what is wrong."""
    progress(f"reading {report.name}")
    examples, report.tolerated = read_with_tolerances(task, root, report.split)
    report.examples = len(examples)
    if not examples:
        raise UsageError(f"{root}: {report.name} has no examples ({task.splits[report.split]})")

    def advance(done: int, total: int) -> None:
        if done % SHOWN_EVERY == 0:
            progress(f"reading {report.name}: {done:,} of {total:,} feature files")

    report.shapes = inspector.inspect(examples, complete=complete, progress=advance)


def _merged_rows(shapes: Iterable[FeatureShapes]) -> dict[int, str]:
    return {number: name for part in shapes for number, name in part.rows.items()}


def _pooling_fault(root: Path, rows: Mapping[int, str], n_boxes: int) -> str:
    """Say which grid cannot be pooled to the recipe's number of visual tokens, "" where all can."""
    for count, name in rows.items():
        if count > n_boxes and math.isqrt(count) ** 2 != count:
            place = f"{root / name}: {count} tokens (rows)" if name else f"n_frames={count}: {count} frames"
            return (
                f"{place} are no square grid, so they cannot be pooled to n_boxes={n_boxes}; keep them all with "
                f"--set n_boxes={count}"
            )
    return ""


def counts(sets: Mapping[str, Sized]) -> dict[str, int]:
    """Return the number of training examples per task."""
    return {name: len(data) for name, data in sets.items()}
