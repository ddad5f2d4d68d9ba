"""The check of a data root, and the check of what runs will read."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

from bench import suites, tasks
from bench.config import Execution, Run
from bench.data import held_out
from bench.data.check_cache import CheckCache
from bench.data.example_tables import read_ahead, read_with_tolerances
from bench.data.feature_inspection import FeatureInspector, FeatureShapes, disagreement
from bench.data.roots import OFFICIAL, is_synthetic, locate
from bench.errors import UsageError
from bench.files import require_file
from bench.suites import Suite
from bench.tasks import Task
from bench.tasks.files import ADVICE
from bench.tasks.tolerance import Tolerance

Progress = Callable[[str], None]  # receives a line on where the check is, "" at its end
SHOWN_EVERY = 500  # files between two lines of progress
DOUBTFUL = 0.9  # of a size that nobody counted, a split with fewer examples is incomplete


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

    @property
    def official_examples(self) -> int | None:
        """The number of examples in the published files; None where it is the same, or not known."""
        task = tasks.get(self.task)
        official = task.official_sizes.get(self.split)
        left_out = self.tolerated.get(Tolerance.NO_SUBTITLES, 0)
        if self.split != "train":
            left_out += self.tolerated.get(Tolerance.REPEATED_EXAMPLE, 0)
        return None if official == self.examples + left_out else official

    @property
    def is_incomplete(self) -> bool:
        """Whether this is not the published split: it has another number of examples than that, if this was counted,
        and else clearly fewer."""
        official = self.official_examples
        counted = tasks.get(self.task).sizes_are_counted
        return official is not None and (counted or self.examples < DOUBTFUL * official)


Reports = Mapping[tuple[str, str], SplitReport]  # by names of task and split


def check(
    root: Path,
    suite: str,
    *,
    n_boxes: int,
    progress: Progress = lambda line: None,
    complete: bool = True,
    jobs: int = 1,
) -> list[SplitReport]:
    """Read every split of every task of a suite, and the feature files that they need.

    Args:
        root: the data root.
        suite: name of the suite.
        n_boxes: the number of visual tokens of the recipe that the data are checked for.
        progress: receives lines on where the check is.
        complete: whether every feature file is read, or of many only a sample.
        jobs: the number of processes that read feature files.
    """
    chosen = suites.get(suite)
    splits = [(task, split) for task in chosen.tasks for split in task.splits]
    reports = _read_splits(root, chosen, splits, complete=complete, progress=progress, jobs=jobs)
    usable: list[SplitReport] = []
    for report in reports:
        if not report.fault:
            report.fault = disagreement(root, [other.shapes for other in [*usable, report]])
        if not report.fault:
            report.fault = _pooling_fault(root, report.shapes.rows, n_boxes)
        if not report.fault:
            usable.append(report)
    return reports


def check_for_runs(runs: Iterable[Run], execution: Execution, progress: Progress = lambda line: None) -> list[str]:
    """Check everything that runs will read: annotations, values, and presence and shape of the features.

    The splits that they train on, report and validate on are read as a whole, their feature files too unless these are
    larger than 4 GiB: of such a split every file is looked for and 1,000 are read, the others are checked when they are
    loaded. What was right is remembered in the cache folder as long as no file changes.

    Returns:
        What the data root that is called "official" lacks of the published data, a line for each split.

    Raises:
        UsageError: a data root is not there, or data that a run needs are faulty; the first fault of every split.
    """
    by_root: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_root.setdefault((run.data, run.suite), []).append(run)
    faults: list[str] = []
    lacks: list[str] = []
    for (data, suite), group in by_root.items():
        root = locate(data, suite, execution.data)
        reports = _reports_for(root, suites.get(suite), group, progress)
        faults += _faults_of(root, suites.get(suite), group, reports)
        if data == OFFICIAL and not is_synthetic(root):
            lacks += [
                f"{report.name} has {report.examples:,} of {report.official_examples:,} examples"
                for report in reports.values()
                if not report.fault and report.is_incomplete
            ]
    if len(faults) > 1:
        raise UsageError("\n  ".join([f"the data have {len(faults)} faults; nothing was run", *faults]))
    if faults:
        raise UsageError(faults[0])
    return lacks


def _reports_for(root: Path, suite: Suite, runs: Sequence[Run], progress: Progress) -> Reports:
    for pattern in suite.annotations:  # all of them are read for the fingerprint
        for path in sorted(root.glob(pattern)):
            require_file(path, ADVICE)
    needed = dict.fromkeys((task, split) for run in runs for task in run.task_list for split in splits_of(run, task))
    return {(r.task, r.split): r for r in _read_splits(root, suite, list(needed), complete=False, progress=progress)}


def _faults_of(root: Path, suite: Suite, runs: Sequence[Run], reports: Reports) -> list[str]:
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
    root: Path, suite: Suite, splits: Sequence[tuple[Task, str]], *, complete: bool, progress: Progress, jobs: int = 1
) -> list[SplitReport]:
    """Return a report on each split, in their order; one that is right and complete enough comes from the cache."""
    cache = CheckCache(root, suite)
    inspector = FeatureInspector(root, suite.features.kind, jobs)
    progress("reading annotations")
    read_ahead(root, splits)
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
