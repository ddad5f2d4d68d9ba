"""Standing of methods: what intervals cover, what is called level with the best, and means over tasks."""

import csv
import io
import json
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import report_fakes as fakes
from scipy import stats

from bench.report import render
from bench.report.comparisons import compare_rows
from bench.report.differences import leader_tables
from bench.report.latex import latex
from bench.report.pairing import AVERAGE, PairedRows
from bench.report.plots import draw_all
from bench.report.plots.critical_difference import level_runs
from bench.report.plots.improvement import improvement
from bench.report.power import POWER, DifferenceVariance
from bench.report.results import results_tables
from bench.report.run_entries import join
from bench.report.standing import MEAN_RANK, NORMALISED, Standing
from bench.report.standing_table import standing_tables
from bench.report.verdicts import verdicts

TASKS = ("vqa", "gqa")
NAMES = ("lora", "adapter", "vl-adapter", "vl-pet-small", "vl-pet-large")
BY_RUN, BY_CHANGE, BY_EXAMPLE = 0.8, 2.0, 6.0  # standard deviations of the simulated noise


@cache
def template_of_runs():
    [template] = join(*fakes.sweep({"lora": fakes.METHODS["lora"]}, suites=["image-text"], seeds=(1,)))
    return replace(template, cells=template.cells[: len(TASKS)])


def simulated(effects, draw, seeds=3, examples=80, names=NAMES, known=True):
    """Runs of methods that score ``effects`` more than 60, with noise of runs, of examples and of both."""
    template, entries = template_of_runs(), []
    hard = {task: draw.normal(60, 10, examples) for task in TASKS}
    index = pd.Index(range(examples))
    for name, effect in zip(names, effects, strict=False):
        change = {task: draw.normal(effect, BY_CHANGE, examples) for task in TASKS}
        for seed in range(seeds):
            points = {
                task: hard[task] + change[task] + draw.normal(0, BY_RUN) + draw.normal(0, BY_EXAMPLE, examples)
                for task in TASKS
            }
            cells = tuple(replace(cell, score=float(points[cell.task].mean())) for cell in template.cells)
            series = {task: pd.Series(values, index=index) for task, values in points.items()} if known else {}
            entries.append(
                replace(
                    template, run_id=f"{name}/{seed}", label=name, method=name, seed=seed, cells=cells, examples=series
                )
            )
    return tuple(entries)


@pytest.fixture
def draw():
    return np.random.default_rng(5)


def covers(estimate, truth):
    return abs(estimate.mean - truth) <= estimate.half_width


def test_intervals_of_scores_and_differences_cover_the_truth():
    """Three hundred sweeps; the intervals of a sweep share their noise, so the standard error is nearly a point."""
    draw = np.random.default_rng(21)
    effects, scores, gaps = [0.0, -2.0, 0.0, 1.0, 3.0], [], []
    for _ in range(300):
        standing = Standing.of(simulated(effects, draw, seeds=2, examples=60))
        scores += [covers(standing.estimates[name]["vqa"], 60 + e) for name, e in zip(NAMES, effects, strict=True)]
        for (a, x), (b, y) in combinations(zip(NAMES, effects, strict=True), 2):
            gaps.append(covers(standing.comparisons.difference("vqa", a, b), x - y))
    assert 0.93 <= np.mean(scores) <= 0.97
    assert 0.93 <= np.mean(gaps) <= 0.97


def test_with_one_seed_or_without_examples_an_interval_is_over_what_there_is(draw):
    one = Standing.of(simulated([0.0, 1.0], draw, seeds=1)).comparisons.difference("vqa", *NAMES[:2])
    assert one.seed_variance is None and one.examples == 80 and one.half_width > 0
    bare = Standing.of(simulated([0.0, 1.0], draw, known=False)).comparisons.difference("vqa", *NAMES[:2])
    assert bare.example_variance is None and bare.examples == 0 and bare.half_width > 0


def test_equal_rows_are_told_apart_at_no_more_than_five_percent_of_columns(draw):
    """Five equal methods: in how many columns is any of them not level with the best?"""
    wrong = {key: 0 for key in ("vqa", AVERAGE, MEAN_RANK)}
    for _ in range(250):
        standing = Standing.of(simulated([0.0] * 5, draw, examples=60))
        for key in wrong:
            wrong[key] += len(standing.level_with_best(key)) < len(NAMES)
    assert all(count / 250 <= 0.05 + 2 * (0.05 * 0.95 / 250) ** 0.5 for count in wrong.values())


def test_planted_differences_are_seen_at_the_stated_power(draw):
    """One method is better than four equal ones: the first step of Holm's correction over ten pairs."""
    gap, examples, seeds, seen, runs = 3.2, 80, 3, 0, 150
    for _ in range(runs):
        standing = Standing.of(simulated([0, 0, 0, 0, gap], draw, seeds, examples))
        p_values = [standing.comparisons.difference("vqa", NAMES[-1], name).p_value for name in NAMES[:-1]]
        seen += sum(p_value < 0.05 / 10 for p_value in p_values)
    variance = DifferenceVariance(
        seed=2 * BY_RUN**2 + 2 * BY_EXAMPLE**2 / examples,
        example=2 * BY_CHANGE**2 / examples,
        examples=examples,
        rows=4,
        hypotheses=10,
    )
    assert 0.3 < variance.power(gap, seeds) < 0.97
    assert seen / (4 * runs) == pytest.approx(variance.power(gap, seeds), abs=0.08)


def test_all_pairs_at_once_are_what_pairs_one_by_one_are(draw):
    standing = Standing.of(simulated([0.0, 1.0, 2.0], draw, names=NAMES[:3]))
    compared = compare_rows(standing.rows, TASKS)
    for a, b in combinations(NAMES[:3], 2):
        one = PairedRows.of(standing.rows[a], standing.rows[b], TASKS).differences(TASKS)
        for key in (*TASKS, AVERAGE):
            both = compared.difference(key, a, b)
            assert (both.mean, both.example_variance) == pytest.approx((one[key].mean, one[key].example_variance))
            assert both.seed_variance is not None
            assert compared.difference(key, b, a).mean == -both.mean


def test_a_row_on_other_examples_is_compared_over_the_common_ones(draw):
    entries = list(simulated([0.0, 1.0, 2.0], draw, names=NAMES[:3]))
    entries[-1] = replace(entries[-1], examples={task: each.iloc[:50] for task, each in entries[-1].examples.items()})
    compared = Standing.of(entries).comparisons
    assert compared.difference("vqa", NAMES[0], NAMES[2]).partial
    assert compared.difference("vqa", NAMES[0], NAMES[2]).examples == 50
    assert not compared.difference("vqa", NAMES[0], NAMES[1]).partial


def value(table, label, key):
    at = [column.key for column in table.columns].index(key)
    return next(row for row in table.rows if row.label == label).values[at]


def test_bold_is_the_best_and_what_cannot_be_told_apart_from_it(draw):
    entries = simulated([-9.0, -9.0, -9.0, 0.0, 0.0], draw)
    [table] = results_tables(entries)
    assert [value(table, name, "vqa").rank for name in NAMES] == [0, 0, 0, 1, 1]
    lines = {line.split(" | ")[0].strip("| "): line for line in render.markdown(table, "cmd").splitlines()}
    assert "**" not in lines["lora"] and "**" in lines["vl-pet-small"] and "**" in lines["vl-pet-large"]
    assert "Bold: the best of the column and all that cannot be told apart from it" in table.caption
    assert "over seeds and examples" in table.caption


@pytest.mark.parametrize(
    ("seeds", "known", "phrase"),
    [
        (1, True, "one seed, with half of the 95% interval over examples"),
        (3, False, "over seeds alone, without the scores of single examples"),
        (1, False, "one seed and no scores of single examples, so no interval"),
    ],
)
def test_the_caption_says_what_intervals_cover(seeds, known, phrase, draw):
    [table] = results_tables(simulated([0.0, 9.0], draw, seeds, known=known, names=NAMES[:2]))
    best = value(table, "adapter", "vqa")
    assert phrase in table.caption
    assert (best.interval is None, best.rank) == ((seeds, known) == (1, False), int((seeds, known) != (1, False)))


def test_mean_ranks_are_over_tasks_and_the_reference_takes_no_part():
    df, plan = fakes.sweep(suites=["image-text"])
    [entries] = [join(df, plan)]
    standing = Standing.of(entries)
    means = df[df["label"] != "full"].groupby(["task", "label"])["score"].mean().unstack()
    expected = means.apply(lambda row: stats.rankdata(-row), axis=1, result_type="broadcast").mean()
    assert {label: each.value for label, each in standing.mean_ranks.items()} == pytest.approx(expected.to_dict())
    assert standing.leader == "vl-pet-large"
    for label, each in standing.mean_ranks.items():
        assert each.interval[0] <= each.value <= each.interval[1], label


def test_the_normalised_mean_is_nought_and_one_at_its_ends_or_is_left_out():
    df, plan = fakes.sweep(suites=["image-text"])
    [table] = standing_tables(join(df, plan))
    assert value(table, "projector-only", NORMALISED).mean == 0.0 and value(table, "full", NORMALISED).mean == 1.0
    assert value(table, "full", NORMALISED).interval is None
    means = df.groupby(["label", "task"])["score"].mean()
    zero, one = means["projector-only"], means["full"]
    assert value(table, "lora", NORMALISED).mean == pytest.approx(((means["lora"] - zero) / (one - zero)).mean())
    [without] = standing_tables(join(df, [cell for cell in plan if cell["label"] != "full"]))
    assert NORMALISED not in [column.key for column in without.columns]
    assert any("No normalised mean: it takes" in note for note in without.notes)


def test_a_blind_row_is_the_lower_end():
    df, plan = fakes.sweep(suites=["image-text"])
    plan = [cell | {"configuration": {"visual": "zero"}} if cell["label"] == "lora" else cell for cell in plan]
    assert Standing.of(join(df, plan)).reference_rows == ("lora", "full")


def test_every_format_has_the_same_numbers(draw):
    [table] = results_tables(simulated([0.0, 1.0, 3.0], draw, names=NAMES[:3]))
    content = json.loads(json.dumps(render.json_value(table)))
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(render.csv_text(table)))}
    for row in content["rows"]:
        of_csv, vqa = rows[row["method"]], row["values"]["vqa"]
        assert [float(of_csv[f"vqa{end}"]) for end in ("", "_low", "_high")] == [vqa["value"], vqa["low"], vqa["high"]]
        printed = f"{vqa['value']:.2f}", f"{(vqa['high'] - vqa['low']) / 2:.2f}"
        for text in (render.markdown(table, "cmd"), latex(table, "cmd"), render.html(table), render.plain_text(table)):
            assert all(number in text for number in printed)


def test_differences_to_the_leading_row_are_in_every_plain_sweep(draw):
    entries = simulated([0.0, 0.0, 0.0, 0.0, 9.0], draw)
    [table] = leader_tables(entries)
    assert table.rows[0].label == NAMES[-1]
    assert all("↓" in value(table, name, "vqa").marks for name in NAMES[:-1])
    keys = {plot.key.split("-")[0] for plot in draw_all(entries, {})}
    assert {"drops", "ranks", "improvement"} <= keys


def test_bars_of_the_rank_diagram_join_rows_that_are_level(draw):
    standing = Standing.of(simulated([-9.0, -9.0, 0.0, 9.0, 9.0], draw))
    order = sorted(standing.mean_ranks, key=lambda label: standing.mean_ranks[label].value)
    assert level_runs(standing, order) == [(0, 1), (3, 4)]


def test_the_probability_of_improvement_compares_runs_of_one_task():
    first, second = np.array([[5.0, 6.0, 7.0], [90.0, 91.0, 92.0]]), np.array([[1.0, 6.0, 2.0], [80.0, 95.0, 96.0]])
    by_task = [stats.mannwhitneyu(a, b).statistic / 9 for a, b in zip(first, second, strict=True)]
    assert improvement(first, second) == pytest.approx(np.mean(by_task))
    df, plan = fakes.sweep(suites=["image-text"])
    plot = next(p for p in draw_all(join(df, plan), {}) if p.key.startswith("improvement"))
    row = plot.data.set_index("method").loc["projector-only"]
    assert (row["low"], row["probability"], row["high"]) == (1.0, 1.0, 1.0)  # runs of one task never meet another's


def test_verdicts_say_who_wins_or_what_would_decide_it(draw):
    standing = Standing.of(simulated([0.0, 0.4, 9.0], draw, names=NAMES[:3]))
    by_pair = {(each.first, each.second): each for each in verdicts(standing, NAMES[:3]) if each.column == "vqa"}
    clear, close = by_pair["lora", "vl-adapter"], by_pair["lora", "adapter"]
    assert clear.decided and "vl-adapter beats lora by" in clear.words
    assert clear.difference.probability_above < 0.001
    assert not close.decided and "cannot be told apart" in close.words
    assert close.p_value >= close.difference.p_value
    assert close.seeds_needed is None or close.seeds_needed > 3


def test_the_examples_needed_are_the_fewest_that_suffice():
    variance = DifferenceVariance(seed=0.1, example=1.0, examples=100, rows=3)
    needed = variance.examples_needed(1.5, 3)
    grown = [replace(variance, example=100 / n, examples=n) for n in (needed, needed - 1)]
    assert grown[0].power(1.5, 3) >= POWER > grown[1].power(1.5, 3)
    assert DifferenceVariance(seed=50.0, example=1.0, examples=100).examples_needed(1.5, 3) is None
