"""What tuning gave: best of k at equal k, and the plot of it."""

import doctest
from itertools import combinations
from statistics import mean

import pytest
import report_fakes as fakes
from hypothesis import given
from hypothesis import strategies as st
from test_report_plots import written

from bench.report import tuning
from bench.report.plots import draw_all
from bench.report.run_entries import join
from bench.report.tuning import expected_best, tuning_tables

SCORES = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=7)


def test_examples_in_the_documentation_hold():
    assert doctest.testmod(tuning).attempted and not doctest.testmod(tuning).failed


@given(SCORES, st.data())
def test_expected_best_is_the_mean_over_all_choices_of_k(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    assert expected_best(scores, k) == pytest.approx(mean(map(max, combinations(scores, k))), abs=1e-9)


def sweep():
    """Two methods; the second had more configurations, one of which failed, and one that it does not offer."""
    one, two = (
        fakes.ablation([{"lr": i} for i in range(count)], effects, tasks=("vqa", "gqa"), base=base, seeds=(1,))
        for base, count, effects in (("lora", 4, [0, 9, -5, 2]), ("vl-pet-large", 6, [0, 1, 2, 30, 3, 4]))
    )
    df = fakes.pd.concat([one[0], two[0]]).assign(tuning=True)
    plan = one[1] + two[1]
    plan += [{**plan[-1], "run_id": c, "label": c, "status": "failed", "cause": c} for c in ("oom", "unsupported")]
    return df, plan


def test_methods_compare_at_equal_k():
    [table] = tuning_tables(join(*sweep()))
    assert [c.key for c in table.columns] == ["tried", "default", "best_of_2", "best_of_4", "best", "settings"]
    lora, vl_pet = table.rows
    assert (lora.values[0].text, vl_pet.values[0].text) == ("4", "7")
    assert lora.values[-1].text == "lr=1" and vl_pet.values[-1].text == "lr=3"
    means = [row.values[1:5] for row in table.rows]
    assert all([v.mean for v in values] == sorted(v.mean for v in values) for values in means)
    assert lora.values[3].mean == lora.values[4].mean > lora.values[2].mean


def test_runs_that_tune_have_no_differences_and_a_plot_of_their_own():
    keys = {plot.key.split("-mini")[0]: plot for plot in draw_all(join(*sweep()), {})}
    assert "best-of-k" in keys and not [key for key in keys if key.startswith(("drops", "curve", "heat"))]
    texts = written(keys["best-of-k"].figure)
    assert not [(a, b) for (a, first), (b, second) in combinations(texts, 2) if first.overlaps(second)]
    assert {"lora", "vl-pet-large"} <= {text for text, _ in texts}


def test_no_plot_without_runs_that_tune():
    assert not [plot for plot in draw_all(join(*fakes.sweep(suites=["image-text"])), {}) if "best-of" in plot.key]
