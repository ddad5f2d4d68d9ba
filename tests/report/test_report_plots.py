"""Plots: every label can be read, whatever the number of methods, and the files are fit to print."""

from dataclasses import replace
from itertools import combinations, groupby, pairwise
from unittest import mock

import pandas as pd
import pytest
import report_fakes as fakes
from matplotlib.text import Text

from bench.report.figure import COLUMN, PAGE, family_style, svg_text
from bench.report.label_placement import spread_apart
from bench.report.plots import draw_all
from bench.report.results import results_tables
from bench.report.run_entries import join


def draw(methods=fakes.METHODS, **options):
    df, plan = fakes.sweep(methods, **{"suites": ["image-text"], "seeds": (1, 2), **options})
    return {plot.key.split("-")[0]: plot for plot in draw_all(join(df, plan), fakes.curves(plan, steps=80))}


@pytest.fixture(scope="module", params=[2, 14, 43, 62])
def plots(request):
    return draw(fakes.many_methods(request.param))


def written(figure) -> list[tuple[str, object]]:
    """Every text that is really drawn (matplotlib also keeps tick labels that it never draws), with its box."""
    drawn, draw_text = {}, Text.draw

    def note(text, *args, **kwargs):
        drawn[id(text)] = text
        return draw_text(text, *args, **kwargs)

    with mock.patch.object(Text, "draw", note):
        figure.draw_without_rendering()
    texts = [text for text in drawn.values() if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent().padded(-1)) for text in texts]  # touching is no overlap


@pytest.mark.parametrize("name", ["tradeoff", "tasks", "cost", "curves", "validation", "ranks", "drops"])
def test_no_text_lies_on_another_or_leaves_the_page(plots, name):
    if name not in plots:
        pytest.skip("a single ranked method is compared with none")
    figure = plots[name].figure
    texts = written(figure)
    clashes = [(a, b) for (a, first), (b, second) in combinations(texts, 2) if first.overlaps(second)]
    assert not clashes
    page = figure.bbox.padded(2)
    assert not [text for text, box in texts if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1))]


def test_every_method_is_named_in_every_plot(plots):
    methods = list(plots["tradeoff"].data["method"])
    for name in ("tradeoff", "tasks", "cost", "curves", "validation"):
        words = " | ".join(text for text, _ in written(plots[name].figure))
        assert all(method in words for method in methods)


def test_widths_fit_a_column_or_a_page(plots):
    assert {plot.figure.get_figwidth() for plot in plots.values()} <= {COLUMN, PAGE}


def test_numbers_behind_a_plot_are_those_drawn():
    plots = draw()
    points = plots["tradeoff"].data.set_index("method")
    assert list(points.index) == list(fakes.METHODS)
    assert points.loc["full", "percent"] == 100.0
    assert (plots["cost"].data["step_ms"] > 20).all()
    assert set(plots["curves"].data["method"]) == set(fakes.METHODS)


def test_pareto_line_holds_exactly_the_methods_that_none_beats():
    points = draw(fakes.many_methods(30))["tradeoff"].data
    assert not points[points["family"] == "reference"]["pareto"].any()
    points = points[points["family"] != "reference"]
    for point in points.itertuples():
        beaten = points[(points["percent"] <= point.percent) & (points["average"] > point.average)]
        assert point.pareto == beaten.empty


def test_of_many_methods_the_best_are_named_and_all_are_in_the_key_by_family():
    plot = draw(fakes.many_methods(62))["tradeoff"]
    texts = [text for text, _ in written(plot.figure)]
    best = set(plot.data[plot.data["pareto"]]["method"])
    assert best <= set(texts)
    key = [text for text in texts if "  " in text]
    assert [text.split("  ")[1] for text in key] == list(plot.data["method"])
    assert [int(text.split("  ")[0]) for text in key] == list(range(1, 63))
    assert sum(text.isdigit() for text in texts) >= 62 - len(best)
    families = plot.data["family"]
    assert (families != families.shift()).sum() == families.nunique()


def test_a_failed_run_is_named_in_its_place():
    plots = draw(seeds=(1,), failed={"lora/image-text/1": "oom"})
    for name in ("tasks", "cost"):
        assert sum(text.strip() == "OOM" for text, _ in written(plots[name].figure)) == {"tasks": 5, "cost": 2}[name]
    assert "lora" not in set(plots["tradeoff"].data["method"])


def test_memory_panel_says_which_figure_it_shows():
    def words_of(**options):
        return " ".join(text for text, _ in written(draw(**options)["cost"].figure))

    assert "Peak device memory" in words_of(gpu=True)
    assert "no peak of its own" in words_of(gpu=False) and "optimizer" in words_of(gpu=False)


def test_host_memory_stands_in_where_records_have_no_split():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    df = df[[column for column in df.columns if not column.startswith("analytic")]]
    cost = next(plot for plot in draw_all(join(df, plan), {}) if plot.key.startswith("cost"))
    assert any("Peak host memory" in text for text, _ in written(cost.figure))


def test_the_parts_of_memory_count_no_weight_twice():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    cost = next(plot for plot in draw_all(join(df, plan), {}) if plot.key.startswith("cost"))
    row, record = cost.data.set_index("method").loc["full"], df[df["method"] == "full"].iloc[0]
    parts = ("weights", "gradients", "optimizer", "activations")  # the trainable ones are among the weights
    expected = sum(record[f"analytic_{part}"] for part in parts) / fakes.MIB
    assert sum(row[f"{part}_mib"] for part in ("frozen", "trainable", *parts[1:])) == pytest.approx(expected)
    assert any(text.strip() == f"{expected:.1f}" for text, _ in written(cost.figure))


def test_a_variant_has_the_colour_of_its_method():
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    name = "blind (lora, features zeroed)"
    df.loc[df["method"] == "lora", "label"] = name
    plan = [cell | {"label": name} if cell["method"] == "lora" else cell for cell in plan]
    plots = draw_all(join(df, plan), fakes.curves(plan, 40))
    families = [plot.data.set_index("method")["family"][name] for plot in plots if "family" in plot.data]
    assert [set(family) if isinstance(family, pd.Series) else {family} for family in families] == [{"low rank"}] * 4


def test_titles_name_synthetic_data():
    assert all("mini: synthetic data" in plot.title for plot in draw().values())
    assert not any("synthetic" in plot.title for plot in draw(synthetic=False).values())


def test_svg_keeps_text_as_text_and_repeats_itself():
    first, again = draw()["tradeoff"], draw()["tradeoff"]
    assert ">vl-pet-large</text>" in svg_text(first)
    assert svg_text(first) == svg_text(again)


def test_nothing_to_draw_is_no_plot():
    df, plan = fakes.sweep(suites=["image-text"], missing=[f"{m}/image-text/1" for m in fakes.METHODS], seeds=(1,))
    assert draw_all(join(pd.DataFrame(columns=["run_id", "task"]), plan), {}) == []
    assert df.empty


def test_spread_keeps_order_and_distance():
    wanted = [1.0, 1.1, 1.2, 4.0, 4.1]
    placed = spread_apart(wanted, gap=0.5, low=0.0, high=10.0)
    assert placed == sorted(placed)
    assert all(b - a >= 0.5 - 1e-9 for a, b in pairwise(placed))
    assert spread_apart([9.9, 9.8], gap=1.0, low=0.0, high=10.0) == [10.0, 9.0]


def test_a_family_without_a_style_looks_like_other_under_its_own_name():
    df, plan = fakes.sweep(fakes.many_methods(30), suites=["image-text"], seeds=(1,))
    new = [cell | {"family": "mixture"} if cell["family"] == "adapter" else cell for cell in plan]
    plots = {plot.key.split("-")[0]: plot for plot in draw_all(join(df, new), fakes.curves(plan, 40))}
    for name in ("tradeoff", "curves"):
        assert "mixture" in [text for text, _ in written(plots[name].figure)]
    assert family_style("mixture") == replace(family_style("other"), name="mixture")
    [table] = results_tables(join(df, new))
    heads = [head for head, _ in groupby(row.family for row in table.rows)]
    assert len(heads) == len(set(heads)) and heads[-3:] == ["mixture", "VL-PET", "enhanced"]


def test_the_family_of_a_run_outside_a_plan_is_that_of_its_record():
    df, _ = fakes.sweep(suites=["image-text"], seeds=(1,))
    assert [entry.family for entry in join(df, [])] == [fakes.FAMILIES[method] for method in fakes.METHODS]
    assert {entry.family for entry in join(df.drop(columns="family"), [])} == {"other"}
