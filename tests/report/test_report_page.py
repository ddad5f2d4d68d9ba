"""The written report: complete, self-contained, the same each time; and the comparison with published numbers."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
import report_fakes as fakes

from bench.errors import UsageError
from bench.report import write
from bench.report.paper_comparison import compare_with_paper

FAILED = {"lora/image-text/2": "oom", "adapter/image-text/1": "nan"}
VOID = {"meta", "br", "img", "path", "use", "circle", "rect", "line"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, write_to(folder)


def write_to(folder):
    df, plan = fakes.sweep(seeds=(1, 2), failed=FAILED, missing=["vl-adapter/video-text/2"])
    environment = {"python": "3.11.2", "torch": "2.13 <cpu>"}
    return write("default", df, plan, folder, fakes.curves(plan, 60), command="bench sweep", environment=environment)


def test_everything_is_written_and_returned(report):
    folder, paths = report
    assert paths[0] == folder / "report.html"
    assert set(paths) == {path for path in folder.rglob("*") if path.is_file()}
    names = {path.name for path in paths}
    assert {"results.md", "results.tex", "efficiency.md", "efficiency.tex"} <= names
    for kind in ("tradeoff", "tasks", "cost", "curves"):
        for suite in ("image-text", "video-text"):
            assert {f"{kind}-mini-bart-{suite}.{suffix}" for suffix in ("png", "svg", "csv")} <= names


def test_the_page_needs_nothing_from_outside(report):
    text = (report[0] / "report.html").read_text()
    assert "://" not in text and not re.search(r"""(src|href)=["'](?!#)""", text) and "@import" not in text
    assert text.count("<svg") == 14 + 1  # and one word in the script and len(text) < 2_000_000


def test_the_page_is_well_formed_with_unique_ids_that_resolve(report):
    text = (report[0] / "report.html").read_text()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) and all(
        (a or b) in set(ids) for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    )

    class Nesting(HTMLParser):
        open_tags: list[str]

        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            if tag not in VOID:
                assert self.open_tags.pop() == tag

    parser = Nesting()
    parser.open_tags = []
    parser.feed(text)
    assert parser.open_tags == []


def test_the_page_names_failures_environment_and_command(report):
    text = (report[0] / "report.html").read_text()
    failures = text[text.index('id="failures"') : text.index('id="environment"')]
    assert failures.count("<tr><th") == 1 + 3  # the head and three runs
    for word in ("OOM", "NaN", "missing", "lora/image-text/2", "vl-adapter/video-text/2"):
        assert word in failures
    assert "torch" in text and "2.13 &lt;cpu&gt;" in text and "cpu-2core" in text and "bench sweep" in text
    assert "mini: synthetic data" in text and "33 of 36 planned runs" in text


def test_writing_again_gives_the_same_bytes(report, tmp_path):
    folder, paths = report
    write_to(tmp_path)
    assert [p for p in paths if (tmp_path / p.relative_to(folder)).read_bytes() != p.read_bytes()] == []


def test_the_report_is_made_without_torch(repo, tmp_path):
    code = (
        "import sys, pathlib, bench.report\n"
        "assert not {'pandas', 'matplotlib'} & set(sys.modules), 'importing bench.report must stay quick'\n"
        "sys.path.insert(0, 'tests/report')\n"
        "import report_fakes\n"
        "df, plan = report_fakes.sweep(seeds=(1,), suites=['image-text'])\n"
        "bench.report.table_text(df, plan)\n"
        "assert 'matplotlib' not in sys.modules, 'a table needs no plots'\n"
        f"bench.report.write('x', df, plan, pathlib.Path({str(tmp_path)!r}), {{}})\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repo)
    assert done.returncode == 0, done.stderr


RECIPE = {"name": "paper", "epochs": 20, "lr": 1e-3, "visual": "features", "limit": None, "evaluate": "report"}


def real(scores: dict[str, float], *, recipe: dict | None = None, first: str = "r", **changes) -> pd.DataFrame:
    run = {"method": "lora", "label": "lora", "backbone": "facebook/bart-base", "suite": "image-text"}
    fair = {"synthetic": False, "limited": False, "tuning": False, "data": "official", "overrides": "{}"}
    settings = json.dumps(RECIPE | (recipe or {}))
    rows = [
        {"run_id": f"{first}{seed}", "seed": seed, "task": task, "score": score + 0.1 * seed, **run, **fair}
        | {"settings": settings, **changes}
        for seed in (-1, 0, 1)
        for task, score in scores.items()
    ]
    return pd.DataFrame(rows)


PAPER = {"vqa": 65.15, "gqa": 53.66, "nlvr": 72.58, "caption": 115.01}


@pytest.fixture
def compare(repo):
    def call(df):
        return compare_with_paper(
            df, repo / "results" / "paper", unpretrained=["bart-base"], paper_settings=lambda *_: RECIPE
        )

    return call


def test_scores_are_set_beside_the_paper(compare):
    comparison = compare(real(PAPER)).table.set_index("task")
    assert list(comparison.index) == [*PAPER, "average"]
    assert comparison.loc["vqa", "paper"] == 65.15 and comparison.loc["vqa", "delta"] == pytest.approx(0)
    assert comparison.loc["average", "ours"] == pytest.approx(sum(PAPER.values()) / 4)
    assert comparison["agrees"].all() and (comparison["n"] == 3).all() and set(comparison["settings"]) == {""}


@pytest.mark.parametrize("backbone", ["facebook/bart-base", "/m/bart-base", "/m/bart-base/"])
def test_a_hub_name_or_a_folder_is_the_backbone_it_ends_in(compare, backbone):
    assert len(compare(real(PAPER, backbone=backbone)).table) == 5


@pytest.mark.parametrize(("start", "count"), [("fisher-v2", 5), (None, 0)])
def test_a_published_run_has_the_options_that_were_published(compare, start, count):
    overrides = json.dumps({"side_init": start} if start else {})
    comparison = compare(real(PAPER, backbone="t5-base", method="lst", overrides=overrides))
    assert len(comparison.table) == count
    assert list(comparison.left_out) == ([] if count else ["options of the method changed (side_init)"])


def test_scores_five_points_low_are_flagged(compare):
    low = real({task: score - 5 for task, score in PAPER.items()})
    assert not compare(low).table["agrees"].any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"synthetic": True}, "synthetic data"),
        ({"limited": True}, "limited"),
        ({"recipe": {"limit": 6}}, "limited"),
        ({"tuning": True}, "scored for tuning"),
        ({"stale": True}, "stale"),
        ({"recipe": {"visual": "zero"}}, "blind (visual=zero)"),
        ({"backbone": "bart-base"}, "a backbone without trained weights"),
        ({"overrides": '{"rank": 4}'}, "options of the method changed (rank)"),
        ({"backbone": "mini-bart"}, "nothing is published of this backbone, suite and method"),
        ({"method": "ia3"}, "nothing is published of this backbone, suite and method"),
        ({"score": float("nan")}, "no score"),
        ({"score": float("inf")}, "no score"),
    ],
)
def test_what_cannot_be_compared_is_not_and_says_why(compare, changes, reason):
    comparison = compare(real(PAPER, **changes))
    assert comparison.table.empty and comparison.left_out == {reason: 3}
    assert comparison.reasons[0].startswith("no score to compare") and f"3 runs: {reason}" in comparison.reasons[1]


def test_runs_with_other_settings_have_rows_of_their_own_that_name_them(compare):
    short = real({task: score - 9 for task, score in PAPER.items()}, recipe={"epochs": 1}, first="short")
    other = real(PAPER, first="other", data="mine")
    table = compare(pd.concat([real(PAPER), short, other])).table
    assert set(table["settings"]) == {"", "epochs=1", "data=mine"} and (table["n"] == 3).all()
    assert table[table["settings"] == ""]["agrees"].all() and not table[table["settings"] == "epochs=1"]["agrees"].any()


def test_nothing_planned_is_an_empty_comparison_that_says_so(compare):
    assert "no records of the planned runs" in compare(real(PAPER).iloc[:0]).reasons[1]


def test_part_of_a_suite_has_no_average_and_says_which_tasks(compare):
    comparison = compare(real({"vqa": 65.0, "gqa": 53.0})).table
    assert list(comparison["task"]) == ["vqa", "gqa"] and set(comparison["settings"]) == {"tasks=vqa+gqa"}


def test_a_folder_without_published_numbers_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no published numbers"):
        compare_with_paper(real(PAPER), tmp_path)
