"""Undefined numbers: nothing that is NaN, infinite or missing makes a mark, a bold value or an interval."""

import csv
import io
from dataclasses import replace
from math import inf, isfinite, nan

import numpy as np
import pandas as pd
import pytest
import report_fakes as fakes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.report import render
from bench.report.differences import ablations, difference_tables
from bench.report.efficiency import efficiency_tables
from bench.report.paired_statistics import (
    Difference,
    average_difference,
    holm,
    paired_difference,
    with_seed_variance,
)
from bench.report.plots import draw_all
from bench.report.power import DifferenceVariance, power_plans
from bench.report.results import results_tables
from bench.report.run_entries import join
from bench.report.stats import rank_marks, sample_std
from bench.report.tuning import expected_best, tuning_tables

UNDEFINED = st.sampled_from([nan, inf, -inf, None])
NUMBERS = st.one_of(UNDEFINED, st.floats(-1e3, 1e3), st.sampled_from([1e308, -1e308]))
FLOATS = NUMBERS.map(lambda value: nan if value is None else value)
RANKS = [{"rank": rank} for rank in (12, 4, 24)]


def check(difference: Difference) -> None:
    """An interval and a p-value are finite or not there; there are none without a spread."""
    half, p_value = difference.half_width, difference.p_value
    assert half is None or (isfinite(half) and half >= 0 and isfinite(difference.mean))
    assert p_value is None or 0 <= p_value <= 1
    assert (half is None) == (p_value is None)
    if difference.mean and not difference.variance:
        assert half is None


@given(st.lists(FLOATS, min_size=1, max_size=4), st.data())
def test_paired_statistics(gaps, data):
    series = [pd.Series(data.draw(st.lists(FLOATS, max_size=6))) for _ in gaps]
    with np.errstate(all="ignore"):
        difference = paired_difference(gaps, series)
        finite = pd.concat(series, axis=1, join="inner").replace([inf, -inf], nan).dropna()
        assert difference.examples == len(finite)
        assert difference.example_variance is None or len(finite) > 1
        check(difference)
        scores = np.array(data.draw(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=4)))
        check(with_seed_variance(difference, scores))
        check(average_difference([difference, difference], gaps))


@given(FLOATS, st.integers(1, 4), NUMBERS, st.integers(0, 5), st.integers(0, 5), NUMBERS)
def test_a_difference_of_any_numbers(mean, seeds, seed_variance, freedom, examples, example_variance):
    check(Difference(mean, seeds, seed_variance, freedom, examples, example_variance))


@given(st.lists(NUMBERS, max_size=6), st.sampled_from([1, -1]))
def test_ranks_spreads_corrections_and_best_of_k(values, better):
    for value, mark in zip(values, rank_marks(values, better), strict=True):
        assert not mark or (value is not None and isfinite(value))
    known = [nan if value is None else value for value in values]
    std = sample_std(known)
    assert std is None or isfinite(std)
    for value, corrected in zip(values, holm(values), strict=True):
        assert corrected is None or isfinite(value)
    if any(map(isfinite, known)):
        assert isfinite(expected_best(known, 1)) or max(map(abs, filter(isfinite, known))) > 1e300


@given(FLOATS, FLOATS, st.integers(0, 3), FLOATS)
@settings(deadline=None, max_examples=40)
def test_power_of_undefined_variances_promises_nothing(seed, example, examples, gap):
    variance = DifferenceVariance(abs(seed), abs(example), examples)
    power = variance.power(gap, 3)
    assert 0 <= power <= 1
    if not isfinite(seed) or not isfinite(example):
        assert power == 0 and variance.seeds_needed(1.0) is None and variance.detectable_gap(3) is None


def broken(values, column_values, each_values):
    """An ablation whose scores, measurements and scores of examples are replaced in places."""
    df, plan, each = fakes.ablation(RANKS, [0, -9, 9], examples=5)
    for at, value in values.items():
        df.loc[df.index[at % len(df)], "score"] = value
    for (at, column), value in column_values.items():
        df[column] = df[column].astype(object)
        df.at[df.index[at % len(df)], column] = value
    for (at, example), value in each_values.items():
        run = list(each)[at % len(each)]
        each[run]["vqa"].iloc[example % 5] = nan if value is None else value
    return df, plan, each


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.integers(0, 17), UNDEFINED, max_size=8),
    st.dictionaries(st.tuples(st.integers(0, 17), st.sampled_from(["percent", "step_seconds", "batch_size"])),
                    st.one_of(UNDEFINED, st.sampled_from(["x", [], {}, True])), max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 8), st.integers(0, 4)), UNDEFINED, max_size=12),
    st.booleans(),
)  # fmt: skip
def test_tables_of_undefined_numbers(values, columns, each, tuning):
    df, plan, examples = broken(values, columns, each)
    df["tuning"] = tuning
    entries = join(df, plan, examples)
    for make in (results_tables, efficiency_tables, difference_tables, tuning_tables):
        for table in make(entries):
            for value in (value for row in table.rows for value in row.values):
                assert (
                    value.text and not value.text.lower().replace("−", "").startswith(("nan", "inf"))
                ) or value.failed
                assert not (value.rank or value.spread or "↑" in value.marks or "↓" in value.marks) or isfinite(
                    value.mean
                )
            for row in csv.reader(io.StringIO(render.csv_text(table))):
                assert not {"nan", "inf", "-inf"} & {field.lower() for field in row[1:]} - {"nan"} and "nan" not in row
    for ablation in ablations(entries):
        for cell in ablation.cells:
            for key, difference in cell.differences.items():
                check(difference)
                assert not cell.mark(key) or difference.half_width is not None
    power_plans(entries, entries)


def test_plots_of_undefined_numbers():
    df, plan, examples = broken({0: nan, 4: inf, 9: None}, {(2, "percent"): -1.0, (3, "step_seconds"): inf}, {})
    for tuning in (False, True):
        curves = {cell["run_id"]: pd.DataFrame({"step": [1, 2, nan], "loss": [nan, inf, 1]}) for cell in plan}
        for plot in draw_all(join(df.assign(tuning=tuning), plan, examples), curves):
            numbers = plot.data.select_dtypes("number").to_numpy(dtype=float)
            assert not np.isinf(numbers).any()


def limited(numbers):
    """An ablation over the number of examples: every cell is scored on the first of them only."""
    df, plan, each = fakes.ablation([{"limit": n} for n in numbers], [0, -9, 9][: len(numbers)], seeds=(1,), examples=9)
    plan = [cell | {"configuration": {"limit": str(cell["point"]["limit"])}} for cell in plan]
    for cell in plan:
        each[cell["run_id"]] = {task: s.iloc[: cell["point"]["limit"]] for task, s in each[cell["run_id"]].items()}
        for task, scores in each[cell["run_id"]].items():
            df.loc[(df["run_id"] == cell["run_id"]) & (df["task"] == task), "score"] = scores.mean()
    return df, plan, each


def test_only_common_examples_are_paired_and_their_number_is_said():
    df, plan, each = limited([6, 3])
    [table] = difference_tables(join(df, plan, each))
    row = next(
        csv.DictReader(
            io.StringIO(render.csv_text(table).split("\n", 2)[0] + "\n" + render.csv_text(table).split("\n", 2)[2])
        )
    )
    base, cell = each["vl-pet-large/1"]["vqa"], each["vl-pet-large,limit=3/1"]["vqa"]
    assert float(row["vqa"]) == pytest.approx((cell - base).dropna().mean()) and row["vqa_examples"] == "3"
    assert any("not scored on the same examples as the base" in note and "VQAv2 Acc. 3" in note for note in table.notes)


def test_without_common_examples_there_is_no_pair():
    df, plan, each = limited([6, 3])
    each["vl-pet-large,limit=3/1"] = {
        task: s.set_axis(["x", "y", "z"]) for task, s in each["vl-pet-large,limit=3/1"].items()
    }
    for examples in (each, {}):  # none in common; none known, but other numbers of them
        [table] = difference_tables(join(df, plan, examples))
        values = table.rows[1].values[1:]
        assert {(value.text, value.spread, value.marks) for value in values} == {("no pair", "", "")}
        assert any(note.startswith("no pair: ") for note in table.notes)


def test_one_common_example_and_equal_differences_have_no_interval():
    df, plan, each = limited([6, 1])
    [table] = difference_tables(join(df, plan, each))
    assert {(value.spread, value.marks) for value in table.rows[1].values[1:]} == {("", "")}
    equal = paired_difference([-5.0], [pd.Series([-5.0, -5.0, -5.0])])
    assert equal.half_width is None and equal.p_value is None
    same = paired_difference([0.0], [pd.Series([0.0, 0.0, 0.0])])
    assert same.half_width == 0 and same.p_value == 1


def test_an_average_is_over_the_columns_of_its_table():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    plan = [cell | {"tasks": ["caption"]} if cell["label"] == "lora" else cell for cell in plan]
    df = df[(df["label"] != "lora") | (df["task"] == "caption")]
    df.loc[df["label"] == "lora", "score"] = 900.0
    entries = join(df, plan)
    [table] = results_tables(entries)
    value = next(row for row in table.rows if row.label == "lora").values[-1]
    assert (value.text, value.rank, value.failed) == ("n/a", 0, False)
    assert "n/a: not run on all tasks of this table, so without an average: lora." in table.notes
    tradeoff = next(plot for plot in draw_all(entries, {}) if plot.key.startswith("tradeoff"))
    assert "lora" not in set(tradeoff.data["method"])


def test_a_cell_of_more_tasks_is_averaged_over_those_of_the_base():
    df, plan, each = fakes.ablation(RANKS[:2], [0, 4])
    more = df[df["task"] == "gqa"].assign(task="caption", score=999.0)
    plan = [cell | {"tasks": ["vqa", "gqa", "caption"]} if "rank" in cell["label"] else cell for cell in plan]
    [compared] = ablations(join(pd.concat([df, more]), plan, each))
    assert abs(compared.cells[0].differences["average"].mean) < 20


CONFIGURATIONS = [{"rank": "4", "lr": "0.001"}, {"rank": "16", "lr": "0.001"}]


def two_under_one_label():
    df, plan = fakes.sweep({"ours": (4.0, 0.5, 40), "x": (4.0, 0.5, 40)}, suites=["image-text"], seeds=(1, 2))
    which = {"ours": 0, "x": 1}
    plan = [cell | {"label": "ours", "configuration": CONFIGURATIONS[which[cell["label"]]]} for cell in plan]
    return df.assign(label="ours"), plan


def test_two_configurations_under_one_label_are_two_rows():
    entries = join(*two_under_one_label())
    for table in (*results_tables(entries), *efficiency_tables(entries)):
        assert [row.label for row in table.rows] == ["ours [rank=4]", "ours [rank=16]"]
        assert [len(row.run_ids) for row in table.rows] == [2, 2]
        assert {value.n for row in table.rows for value in row.values[2:]} == {2}


@pytest.mark.parametrize("column", ["fingerprint", "stale", "settings"])
def test_runs_of_other_data_weights_or_settings_never_share_a_mean(column):
    df, plan = fakes.sweep({"lora": (4.0, 0.5, 40), "adapter": (3.0, 0.6, 41)}, suites=["image-text"], seeds=(1, 2, 3))
    other = (df["label"] == "lora") & (df["seed"] == 2)
    values = {"fingerprint": ("aa11", "bb22"), "stale": (False, True), "settings": ('{"lr": 1}', '{"lr": 2}')}[column]
    df[column] = [values[is_other] for is_other in other]
    [table] = results_tables(join(df, plan))
    rows = [row for row in table.rows if row.label.startswith("lora")]
    assert sorted(len(row.run_ids) for row in rows) == [1, 2] and len({row.label for row in rows}) == 2
    if column == "stale":
        stale = next(row for row in rows if "§" in row.label)
        assert not any(value.rank for value in stale.values) and any(note.startswith("§ stale") for note in table.notes)


def test_a_run_that_has_no_record_yet_stands_with_its_label():
    df, plan = fakes.sweep({"lora": (4.0, 0.5, 40)}, suites=["image-text"], missing=["lora/image-text/1"])
    df = df.assign(settings='{"lr": 1}', fingerprint="aa")
    [row] = results_tables(join(df, plan))[0].rows
    assert row.label == "lora" and len(row.run_ids) == 3


def test_a_run_that_is_planned_twice_counts_once_and_two_of_one_seed_are_two_rows():
    df, plan = fakes.sweep({"lora": (4.0, 0.5, 40)}, suites=["image-text"], seeds=(1,))
    [row] = results_tables(join(df, plan + plan))[0].rows
    assert len(row.run_ids) == 1
    again = replace(join(df, plan)[0], run_id="of another version")
    assert [row.label for row in results_tables([*join(df, plan), again])[0].rows] == ["lora", "lora (2)"]


def test_rows_of_the_frame_without_an_identity_are_left_out_with_a_warning():
    df, _ = fakes.sweep({"lora": (4.0, 0.5, 40)}, suites=["image-text"], seeds=(1, 2))
    df.loc[df["seed"] == 2, "suite"] = None
    with pytest.warns(UserWarning, match="lora/image-text/2 has no suite"):
        assert [entry.seed for entry in join(df, [])] == [1]
    assert join(pd.DataFrame(), []) == () and results_tables(()) == []


def test_tuning_of_limited_runs_keeps_the_names_of_its_configurations():
    df, plan, _ = fakes.ablation(RANKS, [0, 9, 3], base="lora", seeds=(1,))
    [table] = tuning_tables(join(df.assign(tuning=True, limited=True), plan))
    assert table.rows[0].values[-1].text == "rank=4" and not table.rows[0].values[1].failed
