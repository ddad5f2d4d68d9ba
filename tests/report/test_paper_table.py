"""Published scores and ours in one table, in every format."""

import re

import numpy as np
import pandas as pd
import pytest

from bench.report import render
from bench.report.latex import latex
from bench.report.paper_comparison import AVERAGE, KEY, PaperComparison
from bench.report.paper_table import OUTSIDE, paper_tables


@pytest.fixture
def published(repo):
    return pd.read_csv(repo / "results" / "paper" / "vl-pet.csv")


def comparison(published, shift=0.0):
    """Ours as if our runs had given the published scores, or others by ``shift``."""
    both = published[[*KEY, "mean", "std"]].rename(columns={"mean": "paper", "std": "paper_std"})
    both = both.drop_duplicates(KEY).assign(settings="", n=3, delta=shift)
    both = both.assign(ours=both["paper"] + shift, ours_std=both["paper_std"])
    joint = 2 * np.sqrt(2 * both["paper_std"].fillna(0.0) ** 2)
    return PaperComparison(both.assign(agrees=abs(shift) <= joint), {})


def test_records_with_the_numbers_of_the_paper_give_its_tables_to_the_last_digit(published):
    tables = {table.title.split(":")[0]: table for table in paper_tables(comparison(published), {})}
    for (backbone, suite), of_paper in published.groupby(["backbone", "suite"]):
        table = tables[f"{backbone}, {suite}"]
        rows = {row.label: dict(zip([c.key for c in table.columns], row.values, strict=True)) for row in table.rows}
        for score in of_paper.drop_duplicates(KEY).itertuples():
            for kind in ("paper", "ours"):
                value = rows[f"{score.method}: {kind}"][score.task]
                assert value.text == f"{score.mean:.2f}"
                assert value.spread == ("" if score.std != score.std else f"{score.std:.2f}")
            assert rows[f"{score.method}: difference"][score.task].text == "+0.00"
        for task, scores in of_paper[of_paper["method"] != "full"].drop_duplicates(KEY).groupby("task"):
            best, second = sorted(set(scores["mean"]), reverse=True)[:2]
            for score in scores.itertuples():
                rank = {best: 1, second: 2}.get(score.mean, 0)
                assert rows[f"{score.method}: paper"][task].rank == rows[f"{score.method}: ours"][task].rank == rank


def test_differences_outside_of_the_joint_spread_are_marked_in_every_format(published):
    [table] = paper_tables(
        comparison(published[published["backbone"] == "t5-base"].query("suite == 'image-text'"), -9.0), {}
    )
    texts = [render.markdown(table, ""), render.plain_text(table), render.html(table), latex(table, "")]
    row = next(row for row in table.rows if row.label.endswith("difference"))
    assert {value.marks for value in row.values} == {OUTSIDE} and {value.text for value in row.values} == {"−9.00"}
    assert all(re.search(r"[−-]9\.00", text) for text in texts) and "outside" in table.notes[0]
    assert any(column.key == AVERAGE and column.title == "Avg." for column in table.columns)


def test_nothing_to_compare_is_no_table_and_a_reason():
    empty = PaperComparison(pd.DataFrame(columns=[*KEY, "settings", "n"]), {"limited": 2})
    assert paper_tables(empty, {}) == []
    assert empty.reasons == [
        "no score to compare with the paper",
        "left out of the comparison with the paper: 2 runs: limited",
    ]
