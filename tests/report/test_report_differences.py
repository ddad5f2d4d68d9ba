"""Differences to a base: what they are, what their intervals cover, what is marked, and how they are drawn."""

import csv
import doctest
import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import report_fakes as fakes
from test_report_plots import written

from bench.report import paired_statistics, render
from bench.report.differences import ablations, difference_tables
from bench.report.latex import latex
from bench.report.paired_statistics import (
    Difference,
    average_difference,
    holm,
    paired_difference,
    with_seed_variance,
)
from bench.report.plots import draw_all
from bench.report.run_entries import join

RANKS = [{"rank": 12}, {"rank": 4}, {"rank": 24}, {"rank": 48}]


def difference_table(*fake):
    [table] = difference_tables(join(*fake))
    return table


def value(table, label, column):
    at = [c.key for c in table.columns].index(column)
    return next(row for row in table.rows if row.label == label).values[at]


def test_examples_in_the_documentation_hold():
    assert doctest.testmod(paired_statistics).attempted and not doctest.testmod(paired_statistics).failed


def test_a_difference_is_the_mean_over_pairs_of_seeds():
    df, plan, each = fakes.ablation(RANKS, [0, -3, 1, 2])
    table = difference_table(df, plan, each)
    assert [row.label for row in table.rows] == ["vl-pet-large", *(f"vl-pet-large,rank={r}" for r in (4, 24, 48))]
    scores = df.set_index(["label", "task", "seed"])["score"]
    for row in table.rows[1:]:
        gaps = scores[row.label].unstack("task") - scores["vl-pet-large"].unstack("task")
        assert value(table, row.label, "vqa").mean == pytest.approx(gaps["vqa"].mean())
        assert value(table, row.label, "average").mean == pytest.approx(gaps.mean(axis=None))
    base = table.rows[0]
    assert base.reference and base.values[1].mean == pytest.approx(scores["vl-pet-large"]["vqa"].mean())
    assert base.values[1].spread == ""  # beside differences with intervals it would be read as one


def test_seeds_without_a_partner_take_no_part():
    df, plan, each = fakes.ablation(RANKS[:3], [0, -3, 1], missing=["vl-pet-large/2"])
    cell = value(difference_table(df, plan, each), "vl-pet-large,rank=4", "vqa")
    scores = df.set_index(["label", "task", "seed"])["score"]
    gaps = scores["vl-pet-large,rank=4"]["vqa"] - scores["vl-pet-large"]["vqa"]
    assert cell.n == 2 and cell.mean == pytest.approx(gaps.dropna().mean())
    assert "†" in cell.marks


def test_the_order_of_examples_is_of_no_account():
    df, plan, each = fakes.ablation(RANKS[:2], [0, -3])
    mixed = {run: {task: s.sample(frac=1, random_state=1) for task, s in tasks.items()} for run, tasks in each.items()}
    spreads = [
        value(difference_table(df, plan, e), "vl-pet-large,rank=4", "vqa").spread for e in (each, {**each, **mixed})
    ]
    assert spreads[0] == spreads[1] != ""


def test_pairing_over_examples_is_sharper_than_without_and_one_seed_says_what_it_lacks():
    fake = fakes.ablation(RANKS[:2], [0, -3], seeds=(1,))
    table = difference_table(*fake)
    assert float(value(table, "vl-pet-large,rank=4", "vqa").spread) < 2.5
    assert "one seed: how much another seed would change is not in it" in table.notes[0]
    bare = difference_table(fake[0], fake[1])
    assert value(bare, "vl-pet-large,rank=4", "vqa").spread == "" and "nothing is known" in bare.notes[0]


def test_marks_are_for_what_can_be_told_apart():
    table = difference_table(*fakes.ablation(RANKS, [0, -9, 9, 0], noise=(0.2, 2.0)))
    marks = [value(table, f"vl-pet-large,rank={rank}", "average").marks for rank in (4, 24, 48)]
    assert marks == ["↓", "↑", ""]
    for text in (render.markdown(table, "cmd"), render.plain_text(table), render.html(table)):
        assert "↓" in text and "↑" in text
    assert r"$\downarrow$" in latex(table, "cmd")


def test_numbers_behind_the_table_have_the_interval():
    table = difference_table(*fakes.ablation(RANKS[:2], [0, -3]))
    base, row = csv.DictReader(io.StringIO(render.csv_text(table)))
    low, high, mean = (float(row[f"vqa{end}"]) for end in ("_low", "_high", ""))
    assert low < mean < high and mean - low == pytest.approx(high - mean)
    assert base["vqa_low"] == ""


def test_two_bases_have_a_table_each():
    one, two = fakes.ablation(RANKS[:2], [0, 1]), fakes.ablation(RANKS[:2], [0, 2], base="vl-pet-small")
    tables = difference_tables(join(pd.concat([one[0], two[0]]), one[1] + two[1]))
    assert [t.rows[0].label for t in tables] == ["vl-pet-large", "vl-pet-small"]
    assert len({t.key for t in tables}) == 2


def test_a_sweep_without_axes_has_no_differences():
    assert difference_tables(join(*fakes.sweep())) == []


def test_an_unsupported_cell_keeps_its_row_with_the_code():
    df, plan, each = fakes.ablation(RANKS[:2], [0, 1])
    odd = {**plan[-1], "run_id": "odd", "label": "vl-pet-large,rank=7", "status": "failed", "cause": "unsupported"}
    table = difference_table(df, [*plan, odd], each)
    assert value(table, "vl-pet-large,rank=7", "vqa").text == "unsupported"


def test_a_limited_run_is_marked_in_every_column():
    df, plan, each = fakes.ablation(RANKS[:2], [0, 1])
    df.loc[df["label"] == "vl-pet-large,rank=4", "limited"] = True
    table = difference_table(df, plan, each)
    assert all("‡" in v.marks for v in table.rows[1].values)
    assert not any("‡" in v.marks for v in table.rows[0].values)


def test_by_hand():
    """Two seeds, three examples; the formulas of the module's documentation written out."""
    gaps = np.array([[1.0, 4.0], [2.0, 1.0], [6.0, 4.0]])
    without_seeds = paired_difference(gaps.mean(axis=0), [pd.Series(gaps[:, s], index=list("abc")) for s in (0, 1)])
    examples = 2 * np.var(gaps.mean(axis=1), ddof=1)
    rest = gaps - gaps.mean(axis=1)[:, None] - gaps.mean(axis=0)[None] + gaps.mean()
    assert without_seeds.example_variance == pytest.approx((examples - (rest**2).sum() / 2) / 6)
    scores = np.array([[60.0, 62.0], [61.0, 66.0], [59.0, 63.0]])
    complete = with_seed_variance(without_seeds, scores)
    rest = scores - scores.mean(axis=1)[:, None] - scores.mean(axis=0)[None] + scores.mean()
    assert complete.seed_variance == pytest.approx(2 * ((rest**2).sum() / 2) / 2) and complete.seed_freedom == 2
    assert complete.variance == pytest.approx(complete.seed_variance + without_seeds.example_variance)


def test_the_average_halves_with_two_tasks_what_examples_make():
    part = Difference(1.0, 3, examples=50, example_variance=4.0)
    assert average_difference([part, part], [1.0, 1.0, 1.0]).example_variance == pytest.approx(2.0)


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    """A thousand intervals at 95 %: the standard error of their coverage is 0.7 points."""
    draw = np.random.default_rng(seeds)
    effects, hits = [0.0, -2.0, 0.0, 1.0, 3.0], []
    for _ in range(250):
        fake = fakes.ablation(
            [{"rank": i} for i in range(5)], effects, seeds=range(seeds), tasks=("vqa",), examples=60, draw=draw
        )
        [compared] = ablations(join(*fake))
        hits += [
            abs(cell.differences["vqa"].mean - effect) <= cell.differences["vqa"].half_width
            for cell, effect in zip(compared.cells, effects[1:], strict=True)
        ]
    assert 0.93 <= np.mean(hits) <= 0.985


def test_holm_never_lowers_a_p_value_and_keeps_order():
    p_values = [0.04, 0.001, None, 0.5, 0.02]
    corrected = holm(p_values)
    pairs = [(p, q) for p, q in zip(p_values, corrected, strict=True) if p is not None]
    assert all(q >= p for p, q in pairs) and corrected[2] is None
    assert [q for _, q in sorted(pairs)] == sorted(q for _, q in pairs)
    assert corrected[1] == pytest.approx(0.004)


GRID = [{"rank": r, "gate": g} for r in (12, 4, 24) for g in ("large", "none", "small")]
ODD = [{"gate": "large"}, {"gate": "none"}, {"gate": "middleX"}]


@pytest.mark.parametrize(
    ("points", "plot", "kind"),
    [
        (RANKS, None, "curve"),
        (RANKS, "bars", "drops"),
        (ODD, None, "drops"),
        (ODD, "curve", "drops"),
        (GRID, None, "heat"),
        (GRID, "curve", "curve"),
        ([{"rank": 12}, {}, {}], None, "drops"),
    ],
)
def test_the_plot_follows_the_axes(points, plot, kind):
    fake = fakes.ablation(points, list(np.linspace(0, 3, len(points))), plot=plot, tasks=("vqa", "gqa", "nlvr"))
    drawn = {p.key.split("-")[0]: p for p in draw_all(join(*fake), {})}
    assert {"curve", "heat", "drops"} & set(drawn) == {kind}
    texts = written(drawn[kind].figure)
    assert not [(a, b) for (a, first), (b, second) in combinations(texts, 2) if first.overlaps(second)]
    assert len(drawn[kind].data) == (len(points) - 1) * 4


def test_the_curve_has_the_trainable_share_as_second_axis():
    fake = fakes.ablation(RANKS, [0, -3, 1, 2])
    curve = next(p for p in draw_all(join(*fake), {}) if p.key.startswith("curve"))
    words = " ".join(text for text, _ in written(curve.figure))
    assert "4\n5.00 %" in words and "48\n7.00 %" in words


def test_the_map_shows_what_cannot_be_had():
    df, plan, each = fakes.ablation(GRID, [0] * 9)
    lost = {c["run_id"] for c in plan if c["point"] == GRID[-1]}
    plan = [c | {"status": "failed", "cause": "unsupported"} if c["run_id"] in lost else c for c in plan]
    heat = next(p for p in draw_all(join(df[~df["run_id"].isin(lost)], plan, each), {}) if p.key.startswith("heat"))
    assert "unsupported" in [text for text, _ in written(heat.figure)]
