"""Power: what is promised before a sweep is what the tables' test then does."""

import numpy as np
import pandas as pd
import pytest
import report_fakes as fakes
from scipy import stats

from bench.report.paired_statistics import paired_difference, with_seed_variance
from bench.report.power import MOST, DifferenceVariance, power_plans
from bench.report.run_entries import join


def variance(**fields):
    return DifferenceVariance(**{"seed": 1.0, "example": 0.0, "examples": 0, "rows": 1, **fields})


@pytest.mark.parametrize(("gap", "seeds"), [(1.0, 3), (1.5, 5), (3.0, 2), (0.5, 20)])
def test_without_examples_it_is_the_power_of_the_paired_t_test(gap, seeds):
    freedom, far = seeds - 1, gap * seeds**0.5
    critical = stats.t.ppf(0.975, freedom)
    expected = stats.nct.sf(critical, freedom, far) + stats.nct.cdf(-critical, freedom, far)
    assert variance().power(gap, seeds) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("effect", "seeds"), [(3.0, 3), (5.0, 2), (1.8, 6), (1.2, 6)])
def test_it_agrees_with_simulation_within_ten_percent(effect, seeds):
    """Two cells differ from a base; how often are they marked, before Holm's later steps?"""
    draw, rows, examples, runs = np.random.default_rng(7), 2, 80, 700
    by_run, by_change, by_example = 0.8, 2.0, 4.0  # standard deviations
    marked = 0
    for _ in range(runs):
        change = np.stack([np.zeros(examples), *draw.normal(effect, by_change, (rows, examples))])
        noise = draw.normal(0, by_run, (rows + 1, seeds, 1)) + draw.normal(0, by_example, (rows + 1, seeds, examples))
        points = change[:, None] + noise
        scores = points.mean(axis=2)
        for row in (1, 2):
            gaps = [pd.Series(gap) for gap in points[row] - points[0]]
            difference = with_seed_variance(paired_difference(scores[row] - scores[0], gaps), scores)
            marked += difference.p_value < 0.05 / rows
    estimate = variance(
        seed=2 * by_run**2 + 2 * by_example**2 / examples,
        example=by_change**2 / examples,
        examples=examples,
        rows=rows,
    )
    promised = estimate.power(effect, seeds)
    assert 0.2 < promised < 0.97
    assert marked / (runs * rows) == pytest.approx(promised, rel=0.1)


def test_the_number_of_seeds_is_the_least_that_suffices():
    estimate = variance(example=0.01, examples=100, rows=4)
    seeds = estimate.seeds_needed(1.0, 0.8)
    assert estimate.power(1.0, seeds) >= 0.8 > estimate.power(1.0, seeds - 1)
    assert estimate.power(estimate.detectable_gap(seeds), seeds) == pytest.approx(0.8, abs=1e-6)
    assert estimate.detectable_gap(1) is None


def test_a_small_test_set_cannot_be_made_up_for_by_seeds():
    assert variance(example=0.5, examples=50).seeds_needed(1.0) is None
    assert variance(example=0.5, examples=50).power(1.0, MOST) < 0.5


def test_no_spread_at_all_finds_everything():
    assert variance(seed=0.0).power(0.1, 2) == 1.0 and variance(seed=0.0).power(0.0, 2) == 0.0


def test_variances_are_those_of_the_stored_runs():
    df, plan, each = fakes.ablation([{"rank": i} for i in range(6)], [0] * 6, seeds=range(40), noise=(2.0, 6.0))
    [power_plan] = power_plans(join(df, plan, each), ())
    assert power_plan.source == "the runs of this plan" and set(power_plan.variances) == {"vqa", "gqa", "average"}
    vqa = power_plan.variances["vqa"]
    assert vqa.seed == pytest.approx(2 * (2.0**2 + 6.0**2 / 200), rel=0.25)
    assert vqa.example == pytest.approx(3.0**2 / 200, rel=0.4)
    assert vqa.rows == 5 and vqa.examples == 200
    assert power_plan.variances["average"].seed == pytest.approx(vqa.seed / 2, rel=0.35)


def test_a_plan_without_runs_takes_the_variances_of_others():
    df = fakes.sweep(suites=["image-text"], seeds=(1, 2, 3))[0]
    _, new, _ = fakes.ablation([{"rank": i} for i in range(3)], [0] * 3, tasks=("vqa", "gqa", "nlvr", "caption"))
    new = [cell | {"status": "missing"} for cell in new]
    [power_plan] = power_plans(join(df.iloc[:0], new), join(df, []))
    assert power_plan.source == "all runs on this backbone and suite"
    assert (
        power_plan.variances["vqa"].seed == pytest.approx(2 * 0.4**2, rel=0.5) and power_plan.variances["vqa"].rows == 2
    )


def test_nothing_stored_is_no_variance():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    [power_plan] = power_plans(join(df, plan), join(df, []))
    assert power_plan.variances == {} and power_plan.source == "nothing"
