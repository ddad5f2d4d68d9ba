"""Tables: what is marked, what is said about failures, and that each format can be used as it is."""

import csv
import doctest
import io
import re
import statistics

import pandas as pd
import pytest
import report_fakes as fakes
from hypothesis import given
from hypothesis import strategies as st

from bench import records
from bench.report import escaping, families, label_placement, render, stats, table_text
from bench.report.differences import difference_tables
from bench.report.efficiency import efficiency_tables
from bench.report.latex import latex
from bench.report.plots import draw_all
from bench.report.results import results_tables
from bench.report.run_entries import MEASURED, join
from bench.report.stats import rank_marks, sample_std
from bench.report.table import Table

FLOATS = st.floats(0, 160, allow_nan=False)


def results(*sweep: object) -> list[Table]:
    return results_tables(join(*sweep))


def cell(table: Table, method: str, column: str):
    at = [each.key for each in table.columns].index(column)
    return next(row for row in table.rows if row.label == method).values[at]


def set_score(df: pd.DataFrame, method: str, task: str, score: float) -> None:
    df.loc[(df["method"] == method) & (df["task"] == task), "score"] = score


@given(st.lists(FLOATS, min_size=2, max_size=6))
def test_spread_is_the_sample_standard_deviation(values):
    assert sample_std(values) == pytest.approx(statistics.stdev(values), abs=1e-9)


@pytest.mark.parametrize("module", [stats, escaping, label_placement, families])
def test_examples_in_the_documentation_hold(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted and not outcome.failed


def test_the_fakes_have_the_columns_of_real_results():
    new = {"family", "task_label", "fingerprint", "stale"}
    assert set(fakes.sweep()[0].columns) - new == set(records.COLUMNS) - new
    assert set(MEASURED) <= set(records.COLUMNS)


def test_one_value_has_no_spread():
    assert sample_std([65.0]) is None


@given(st.lists(st.one_of(st.none(), FLOATS), max_size=8), st.sampled_from([1, -1]))
def test_places_follow_the_distinct_values(means, better):
    ranks = rank_marks(means, better)
    distinct = sorted({round(value, 9) for value in means if value is not None}, reverse=better > 0)
    present = sum(value is not None for value in means)
    for value, mark in zip(means, ranks, strict=True):
        rank = distinct.index(round(value, 9)) + 1 if value is not None else 0
        assert mark == (rank if rank in (1, 2) and present > rank else 0)


def test_sums_that_differ_by_rounding_alone_tie():
    assert 0.1 + 0.2 != 0.3
    assert rank_marks([0.1 + 0.2, 0.3, 0.1], better=+1) == [1, 1, 2]


def test_full_is_a_reference_and_never_best():
    [table] = results(*fakes.sweep(suites=["image-text"]))
    full = next(row for row in table.rows if row.label == "full")
    assert full.reference and all(value.rank == 0 for value in full.values)
    assert cell(table, "full", "vqa").mean > cell(table, "vl-pet-large", "vqa").mean  # it would have won
    assert "| *full* |" in render.markdown(table, "cmd")
    assert r"\textcolor{gray}{\textit{full}}" in latex(table, "cmd")


def test_rows_keep_the_order_of_the_sweep_and_columns_that_of_the_suite():
    image, video = results(*fakes.sweep())
    assert [row.label for row in image.rows] == list(fakes.METHODS)
    assert [column.key for column in image.columns] == ["percent", "vqa", "gqa", "nlvr", "caption", "average"]
    assert [column.key for column in video.columns] == ["percent", "tvqa", "how2qa", "tvc", "yc2c", "average"]


def test_spread_is_a_subscript_over_seeds_and_absent_for_one():
    [three] = results(*fakes.sweep(suites=["image-text"]))
    [one] = results(*fakes.sweep(suites=["image-text"], seeds=(1,)))
    value = cell(three, "lora", "vqa")
    assert f"{value.text}<sub>±{value.spread}</sub>" in render.markdown(three, "cmd")
    assert f"$_{{\\pm {value.spread}}}$" in latex(three, "cmd")
    assert "3 seeds" in three.caption and "one seed" in one.caption
    texts = [render.plain_text(one), render.html(one), render.markdown(one, ""), table_text(*fakes.sweep(seeds=(1,)))]
    assert "±" not in "".join(texts)


def test_a_sweep_without_any_result_is_a_table_of_codes():
    df, plan = fakes.sweep(suites=["image-text"])
    text = table_text(df.iloc[:0], [cell | {"status": "missing"} for cell in plan])
    assert text.count("missing") == 9 * 6 + 1 and "108 of 108" in text


def test_one_broken_metric_costs_no_other_score():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    broken = (df["method"] == "lora") & (df["task"] == "caption")
    df.loc[broken, ["score", "status"]] = [None, "failed"]
    [table] = results(df, plan)
    assert cell(table, "lora", "vqa").mean and cell(table, "lora", "caption").text == "error"
    assert cell(table, "lora", "average").text == "error"


def test_fewer_seeds_than_planned_get_a_dagger_and_a_note():
    df, plan = fakes.sweep(suites=["image-text"], failed={"lora/image-text/2": "oom"}, missing=["adapter/image-text/1"])
    [table] = results(df, plan)
    assert cell(table, "lora", "vqa").marks == "†" and cell(table, "lora", "vqa").n == 2
    assert cell(table, "vl-adapter", "vqa").marks == ""
    assert "† fewer seeds than planned: lora 2 of 3 (1 OOM); adapter 2 of 3 (1 missing)." in table.notes


def test_limited_runs_are_marked_and_not_ranked():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    df.loc[df["method"] == "vl-pet-large", "limited"] = True
    [table] = results(df, plan)
    limited = cell(table, "vl-pet-large ‡", "vqa")  # the mark is part of the name, in every format and plot
    assert limited.marks == "‡" and limited.rank == 0
    assert any(note.startswith("‡") for note in table.notes)
    assert all("vl-pet-large ‡" in made for made in (render.markdown(table, "cmd"), render.csv_text(table)))
    assert "vl-pet-large ‡" in [row.label for row in efficiency_tables(join(df, plan))[0].rows]


def test_synthetic_data_is_named_in_every_table_and_only_there():
    for synthetic in (True, False):
        entries = join(*fakes.sweep(synthetic=synthetic))
        for table in [*results_tables(entries), *efficiency_tables(entries)]:
            for made in (
                render.markdown(table, "cmd"),
                latex(table, "cmd"),
                render.plain_text(table),
                render.html(table),
            ):
                assert ("mini: synthetic data" in made) == synthetic


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hardware": "A100"}, {"hardware": "H100"}),
        ({"precision": "bf16"}, {"precision": "fp32"}),
        ({"batch_size": 300}, {"batch_size": 500}),
    ],
)
def test_time_and_memory_under_different_conditions_share_no_table_and_no_plot(one, other):
    first, plan = fakes.sweep(suites=["image-text"], seeds=(1,), gpu=True, **one)
    second, more = fakes.sweep(suites=["image-text"], seeds=(2,), gpu=True, **other)
    entries = join(pd.concat([first, second]), plan + more)
    tables = efficiency_tables(entries)
    for table, conditions in zip(tables, (one, other), strict=True):
        assert str(next(iter(conditions.values()))) in table.title
        assert "compare only within" in table.notes[0]
    assert len({table.key for table in tables}) == 2
    assert len([plot for plot in draw_all(entries, {}) if plot.key.startswith("cost")]) == 2
    assert all(cell(table, "lora", "step_seconds").n == 1 for table in tables)
    assert all({value.rank for row in table.rows for value in row.values} == {0, 1, 2} for table in tables)


def test_memory_is_the_device_peak_where_there_is_one():
    for gpu, title in ((True, "Peak device memory (MiB)"), (False, "Peak host memory (MiB)")):
        [table] = efficiency_tables(join(*fakes.sweep(suites=["image-text"], gpu=gpu)))
        assert table.columns[-1].title == title and table.columns[-1].better == -gpu


def test_time_of_a_failed_run_is_its_code_but_its_parameters_are_known():
    [table] = efficiency_tables(
        join(*fakes.sweep(suites=["image-text"], seeds=(1,), failed={"lora/image-text/1": "oom"}))
    )
    assert [value.text for value in table.rows[2].values] == ["0.088", "5.93", "OOM", "OOM", "OOM", "OOM"]


NASTY = {
    "full": (100.0, 0.9, 50),
    "a_b&c%d#1$2{x}~^\\<>|": (4.0, 0.8, 40),
    "lora[rank=4]": (3.0, 0.7, 30),
    "x": (1, 0.5, 9),
}


@pytest.mark.parametrize("methods", [fakes.METHODS, NASTY])
def test_latex_has_balanced_braces_and_even_rows(methods):
    failed = {f"{list(methods)[1]}/image-text/1": "oom"}
    entries = join(*fakes.sweep(methods, failed=failed))
    for table in [*results_tables(entries), *efficiency_tables(entries)]:
        source = latex(table, "python -m bench sweep default")
        body = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
        bare = re.sub(r"\\[{}&%$#_]", "", body)
        depth = 0
        for sign in bare:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            assert depth >= 0
        assert depth == 0 and bare.count("$") % 2 == 0 and "%" not in bare and "#" not in bare
        rows = bare[bare.index(r"\toprule") : bare.index(r"\bottomrule")].splitlines()
        assert len({row.count("&") for row in rows if "&" in row}) == 1
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption[", r"\label{tab:"):
            assert command in source
        assert "% made by: python -m bench sweep default" in source
        assert all(f"% runs of {row.label}: {' '.join(row.run_ids)}\n" in source for row in table.rows)


def test_markdown_and_terminal_rows_line_up():
    entries = join(*fakes.sweep(NASTY, failed={"x/video-text/3": "timeout"}))
    for table in results_tables(entries):
        rows = [line for line in render.markdown(table, "cmd").splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(table.columns) + 2}
        ruled = render.plain_text(table).split("─\n")
        assert len({len(line) for line in (ruled[1] + ruled[2]).splitlines() if "─" not in line}) == 1


def test_csv_carries_unrounded_values_and_codes():
    df, plan = fakes.sweep(suites=["image-text"], failed={"x": "oom"})
    [table] = results(df, plan)
    frame = pd.read_csv(io.StringIO(render.csv_text(table))).set_index("method")
    scores = df[(df["method"] == "lora") & (df["task"] == "vqa")]["score"]
    assert frame.loc["lora", "vqa"] == pytest.approx(scores.mean(), rel=1e-12)
    assert frame.loc["lora", "vqa_std"] == pytest.approx(scores.std()) and frame.loc["lora", "vqa_n"] == 3


def test_every_row_carries_its_runs_in_every_format():
    label = "vl-pet-large,rank=4"
    ablation = fakes.ablation([{"rank": rank} for rank in (12, 4)], [0, 1])
    tables = {"lora": results(*fakes.sweep(suites=["image-text"]))[0], label: difference_tables(join(*ablation))[0]}
    for name, table in tables.items():
        ids = {"lora": [f"lora/image-text/{s}" for s in (1, 2, 3)], label: [f"{label}/{s}" for s in (1, 2, 3)]}[name]
        assert list(next(row for row in table.rows if row.label == name).run_ids) == ids
        row = next(row for row in csv.reader(io.StringIO(render.csv_text(table))) if row[0] == name)
        assert row[-1] == " ".join(ids)
        assert f"\n{name}: {' '.join(ids)}\n" in render.markdown(table, "cmd").split("<!-- runs")[1].split("-->")[0]
        words = " ".join(ids)
        assert f'data-runs="{words}"><th scope="row" title="runs: {words}">{name}</th>' in render.html(table)


def test_columns_are_titled_by_the_plan_or_the_records_or_the_task():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    unknown = {key: {} for key in fakes.headings("image-text")}
    bare = df.drop(columns=["task_label", "metric", "split"])
    for frame, cells, titles in (
        (bare, plan, ["VQAv2 Acc.", "COCO Cap. CIDEr"]),
        (df, [cell | unknown for cell in plan], ["VQAv2 Acc.", "COCO Cap. CIDEr"]),
        (bare, [cell | unknown for cell in plan], ["vqa", "caption"]),
    ):
        [table] = results(frame, cells)
        assert [table.columns[at].title for at in (1, 4)] == titles
        assert ("test split" in table.caption) == (titles[0] != "vqa")


def test_runs_on_single_tasks_do_not_rearrange_the_columns():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    plan = [cell | {"tasks": [task]} for cell, task in zip(plan, ("caption", "vqa"), strict=False)] + plan[2:]
    [table] = results(df, plan)
    assert [column.key for column in table.columns[1:-1]] == ["vqa", "gqa", "nlvr", "caption"]


def test_without_a_plan_every_run_of_the_frame_is_shown():
    df, _ = fakes.sweep(suites=["image-text"], seeds=(1,))
    df.loc[df["method"] == "lora", "label"] = "lora [rank=8]"
    [table] = results(df, [])
    assert [row.label for row in table.rows][:3] == ["full", "projector-only", "lora [rank=8]"]


def test_a_long_table_stands_by_family_in_every_format():
    [table] = results(*fakes.sweep(fakes.many_methods(62), suites=["image-text"], seeds=(1,)))
    kinds = [row.family for row in table.rows]
    assert len(table.rows) == 62 and kinds == [fakes.FAMILIES[row.label.split("[")[0]] for row in table.rows]
    heads = [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]
    assert len(heads) == len(set(heads)) > 5  # every family once
    for head in heads:
        assert f"| **{head}** |" in render.markdown(table, "cmd")
        assert f"\n· {head}\n" in render.plain_text(table)
        assert f'<tr class="family"><th colspan="7">{head}</th></tr>' in render.html(table)
        assert rf"{{l}}{{\textit{{{head}}}}}" in latex(table, "cmd")
    made = latex(table, "cmd")
    assert made.count(r"\begin{table}") == made.count(r"\end{table}") == made.count(r"\bottomrule") > 1  # pages
    assert "continued" in made


def test_a_short_table_has_no_heads():
    [table] = results(*fakes.sweep(suites=["image-text"]))
    assert "adapter**" not in render.markdown(table, "cmd") and "·" not in render.plain_text(table)
