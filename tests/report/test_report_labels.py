"""Labels are never markup: whatever a user calls a variant, every file can be read and says the same."""

import csv
import io
import re
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest
import report_fakes as fakes
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench import report
from bench.report import plots as plot_modules
from bench.report import render
from bench.report.differences import difference_tables
from bench.report.efficiency import efficiency_tables
from bench.report.escaping import latex_text, markdown_text, printable
from bench.report.figure import svg_text
from bench.report.latex import latex
from bench.report.plots import draw_all
from bench.report.results import results_tables
from bench.report.run_entries import join
from bench.report.tuning import tuning_tables

HOSTILE = [
    *(r"lora ($\rank=8$)", "$a_$", "$", r"\$x$", "$\\frac{", r"\input{x}", "a%b", "#1", "{", "}", "x^2_i", "\\"),
    *(
        "[3cm] x",
        "*",
        "* x",
        "[",
        "--",
        "-->",
        "--!>",
        "<!--",
        "]]>",
        "?`",
        "αβγ ΔΩ ά",
        "Ünï ß ł ő",
        "中文",
        "é\u0301",
        "½ﬁ",
    ),
    *("a\nb", "a\r\nb", "\n", "a|b", "|", "<script>alert(1)</script>", "<img src=x onerror=y>", "&lt;", "&amp;lt;"),
    *("`c`", "**b**", "_i_", "__b__", "~~s~~", "[x](javascript:y)", "![x](y)", "[a]: b", "# h", "> q", "- l", "1. n"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=HYPERLINK("x")', '"q"', "'", "a,b;c", "＝1"),
    *("\x1b[31mred\x1b[0m", "\x9b31m", "\x07", "\x00", "a\u2028b", "\u202eabc", "\ud83d", "\udcff", "\ufffe", "\x85"),
    *(" ", "_x", "__", "x" * 500, "w " * 200, 'id="x" href="#y" url(#z) xmlns:a="b"', "🧪", "full", "NaN", "None"),
]
LABELS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), min_size=1, max_size=30))
TABLES = (results_tables, efficiency_tables, difference_tables, tuning_tables)


def sweep(label: str):
    """A sweep in which the label names a variant, a backbone, a data root, a family, hardware and a task."""
    df, plan = fakes.sweep(
        {"lora": (5.0, 0.5, 40), "adapter": (4.0, 0.6, 41), "x": (3.0, 0.7, 42)}, suites=["image-text"]
    )
    own = df["label"] == "x"
    df.loc[own, ["label", "family"]] = [label, label]
    df = df.assign(backbone=label, data=label, hardware=label)
    plan = [cell | {"backbone": label, "task_labels": {**cell["task_labels"], "vqa": label}} for cell in plan]
    return df, [cell | {"label": label, "family": label} if cell["label"] == "x" else cell for cell in plan]


def ablation(label: str):
    """An ablation whose base has the label; its cells are called after it and lie on an axis of such values."""
    df, plan, each = fakes.ablation([{"gate": label}, {"gate": "none"}, {"gate": f"{label}2"}], [0, -9, 9], base="BASE")
    df = df.assign(label=df["label"].str.replace("BASE", label, regex=False))
    return (
        df,
        [
            cell | {key: cell[key].replace("BASE", label) for key in ("label", "base")} | {"method": "lora"}
            for cell in plan
        ],
        each,
    )


def tables_of(label: str):
    entries = [*join(*sweep(label)), *join(*ablation(label))]
    return [table for make in TABLES for table in make(entries)]


@settings(max_examples=60, deadline=None)
@given(LABELS)
@example("[x](y) | $a$ <b> \x1b[0m\n=1")
def test_every_format_of_a_table_stays_what_it_is(label):
    shown = printable(label)
    assert shown.isprintable() or not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]", shown)
    for table in tables_of(label):
        made = {f: getattr(render, f)(table) for f in ("plain_text", "html", "csv_text")}
        made["markdown"] = render.markdown(table, f"python -m bench sweep {label}")
        made["latex"] = latex(table, f"python -m bench sweep {label}")
        for text in made.values():
            text.encode("utf-8")
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
        check_markdown(made["markdown"], table)
        check_html(made["html"], table)
        check_latex(made["latex"], table)
        check_csv(made["csv_text"], table)
        assert len(made["plain_text"].splitlines()) == len(render.plain_text(plain(table)).splitlines())


def plain(table):
    """The table with harmless labels."""
    rows = tuple(replace(row, label="x") for row in table.rows)
    return replace(table, rows=rows, title="x", notes=("x",) * len(table.notes))


def check_markdown(text, table):
    shown, comment = text.split("<!-- runs\n")
    assert comment.count("-->") == 1 and comment.rstrip().endswith("-->") and "--!>" not in comment
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {len(table.columns) + 2}
    assert not re.search(r"<(?!/?(u|sub)>)", shown)
    bare = re.sub(r"\\[^\w\s]", "", shown)  # escaped signs are text
    assert "`" not in bare and "$" not in bare and "~" not in bare and "](" not in bare and "][" not in bare


def check_html(text, table):
    root = ET.fromstring(text.replace("<tr class=reference ", '<tr class="reference" '))
    heads = [head.text or "" for head in root.iter("th") if head.get("scope") == "row"]
    assert heads == [row.label for row in table.rows]


def check_latex(text, table):
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert body.isascii()
    bare = re.sub(r"\\[{}&%$#_]", "", body)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and "%" not in bare and "#" not in bare
    rows = bare[bare.index(r"\toprule") : bare.index(r"\bottomrule")].splitlines()
    assert len({row.count("&") for row in rows if "&" in row}) == 1
    assert not [row for row in rows if row.startswith(("[", "*"))]


def check_csv(text, table):
    for row, line in zip(table.rows, list(csv.reader(io.StringIO(text)))[1:], strict=True):
        assert line[0] in (row.label, f"'{row.label}")
        assert not line[0].startswith(("=", "+", "-", "@", "\t", "\r"))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(LABELS)
@example(r"lora ($\rank=8$)")
@example("$a_$")
@example("_\x00\ud83d\n" + "x" * 300)
def test_every_plot_is_drawn_with_its_label_as_text(label):
    df, plan = sweep(label)
    for entries, curves in ((join(df, plan), fakes.curves(plan, 40)), (join(*ablation(label)), {})):
        for plot in draw_all(entries, curves):
            svg = svg_text(plot)
            root = ET.fromstring(svg[svg.index("<svg") :])
            words = "".join("".join(text.itertext()) for text in root.iter() if text.tag.endswith("text"))
            assert "mathdefault" not in words


@pytest.mark.parametrize(
    "label", [r"lora ($\rank=8$)", "$a_$", "a\nb", "\ud83d", 'href="#a" id="b"', "../../x", "x" * 400, "=1+1"]
)
def test_a_report_is_written_whatever_a_label_is(label, tmp_path):
    df, plan = sweep(label)
    faults = []
    out, curves, name = tmp_path / "out", fakes.curves(plan, 40), label[:20].replace("/", "-")
    paths = report.write(name, df, plan, out, curves, command=f"bench {label}", on_fault=faults.append)
    assert not faults
    assert {"report.html", "results", "tradeoff", "curves"} <= {path.name.split("-")[0] for path in paths} | {
        path.stem for path in paths
    } | {path.name for path in paths}
    assert {path.parent for path in paths} <= {tmp_path / "out", tmp_path / "out" / "plots"}
    for path in paths:
        if path.suffix not in (".png", ".pdf"):
            path.read_bytes().decode("utf-8")
        if path.suffix == ".csv":  # no text is a formula to a spreadsheet
            rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
            assert not [field for row in rows for field in row if field.startswith(("=", "@", "\t"))], path.name
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    if len(label) < 50:
        assert render.html_text(label).replace("&quot;", '"') in [text.strip() for text in texts]


def test_labels_that_differ_only_in_signs_write_no_file_over_another(tmp_path):
    one, two = (
        fakes.ablation([{"rank": 12}, {"rank": 4}], [0, 1], base="a b"),
        fakes.ablation([{"rank": 12}, {"rank": 4}], [0, 2], base="A-b"),
    )
    examples = one[2] | two[2]
    paths = report.write("x", pd.concat([one[0], two[0]]), one[1] + two[1], tmp_path, {}, examples=examples)
    assert len({str(path).lower() for path in paths}) == len(paths)
    assert len([path for path in paths if path.name.startswith("differences-") and path.suffix == ".csv"]) == 2


def test_a_plot_that_fails_costs_that_plot(tmp_path, monkeypatch):
    df, plan = fakes.sweep(suites=["image-text"])
    module = plot_modules.import_module("bench.report.plots.tradeoff")
    monkeypatch.setattr(module, "_draw", lambda *_: 1 / 0)
    faults = []
    paths = report.write("x", df, plan, tmp_path, fakes.curves(plan, 40), on_fault=faults.append)
    assert faults == ["plot not drawn: tradeoff of mini-bart, image-text (ZeroDivisionError: division by zero)"]
    names = {path.name.split("-mini")[0] for path in paths}
    assert {"results.md", "efficiency.tex", "tasks", "cost", "curves"} <= names and "tradeoff" not in names
    assert "tradeoff of mini-bart, image-text (ZeroDivisionError" in (tmp_path / "report.html").read_text()


def test_tables_are_written_before_anything_is_drawn(tmp_path, monkeypatch):
    def killed(*_):
        assert (tmp_path / "results.md").exists() and (tmp_path / "efficiency.tex").exists()
        raise KeyboardInterrupt

    df, plan = fakes.sweep(suites=["image-text"])
    monkeypatch.setattr(plot_modules, "draw_all", killed)
    with pytest.raises(KeyboardInterrupt):
        report.write("x", df, plan, tmp_path, {})
    assert len(pd.read_csv(tmp_path / "results-mini-bart-image-text.csv")) == len(fakes.METHODS)


def test_curves_that_are_none_are_named_and_the_rest_is_drawn(tmp_path):
    df, plan = fakes.sweep(suites=["image-text"], seeds=(1,))
    curves = fakes.curves(plan, 40)
    first, second, third, *_ = curves
    curves[first] = pd.DataFrame([[1, 2]])
    curves[second] = pd.DataFrame({"step": ["a", None, []], "loss": [{}, "x", float("nan")]})
    curves[third] = pd.DataFrame({"step": [1, 2, 3], "loss": [float("inf"), 1.0, float("nan")]})
    faults = []
    paths = report.write("x", df, plan, tmp_path, curves, on_fault=faults.append)
    assert faults == [f"training curve of {run}: no point has a step and a finite loss" for run in (first, second)]
    assert "curves-mini-bart-image-text.svg" in {path.name for path in paths}


@pytest.mark.skipif(not fakes.has_latex(), reason="needs pdflatex with siunitx (Debian: texlive-science)")
def test_latex_of_every_hostile_label_compiles(tmp_path):
    tables = "\n".join(latex(table, "cmd") for label in HOSTILE for table in results_tables(join(*sweep(label))))
    source = (
        r"\documentclass{article}\usepackage{booktabs,graphicx,siunitx,xcolor}\extrafloats{500}\begin{document}"
        + tables
    )
    (tmp_path / "t.tex").write_text(source.replace(r"\end{table}", r"\end{table}\clearpage") + r"\end{document}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:]


@pytest.mark.parametrize("text", ["vl-pet-large,rank=4", "lora [rank=4]", "add_missing=true", "peft:dora", "1.5 & 2"])
def test_ordinary_labels_stay_as_they_are(text):
    assert markdown_text(text) == text and printable(text) == text
    assert latex_text(text).replace("\\", "") == text
