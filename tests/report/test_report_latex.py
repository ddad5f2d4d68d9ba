"""Tables in LaTeX fit the pages of venues: pdflatex reports neither a line nor a float that is too large."""

import re
import subprocess

import pytest
import report_fakes as fakes

from bench import report
from bench.report.latex import STYLES, document, latex
from bench.report.run_entries import join

LONG = ("a_b&c%d#1$2{x}~^\\<>|" * 4, "a word " * 13, "[best] *of* \u03b1 = \u00bd \u00e9 \u4e2d", "w" * 100)


def tables(methods, seeds=(1, 2)):
    """All tables of a sweep, those of both suites."""
    entries = join(*fakes.sweep(methods, seeds=seeds))
    return [table for of_kind in report.tables_by_kind(entries).values() for table in of_kind]


@pytest.mark.skipif(not fakes.has_latex(), reason="needs pdflatex with siunitx (Debian: texlive-science)")
@pytest.mark.parametrize("style", STYLES)
def test_every_table_fits(style, tmp_path):
    hostile = dict(zip(LONG, fakes.many_methods(len(LONG)).values(), strict=True))
    sizes = {f"of-{count}": fakes.many_methods(count) for count in (3, 9, 78)} | {"hostile": fakes.METHODS | hostile}
    for name, methods in sizes.items():
        made = [latex(table, "cmd", style) for table in tables(methods, (1,) if len(methods) > 20 else (1, 2))]
        text = "\\clearpage\n".join(made)
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
    (tmp_path / "all.tex").write_text(document(list(sizes), style), encoding="utf-8")
    done = subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:]
    log = (tmp_path / "all.log").read_text(encoding="latin-1")
    assert re.findall(r"Overfull \\hbox.*|.*Float too large.*", log) == []
