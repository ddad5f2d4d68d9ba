"""The tables of the front page and of docs/miniature.md: ``python -m benchmarks.readme_tables``.

It takes them from the reports of ``python -m bench sweep default --seeds 1,2,3`` and ``python -m bench sweep
mini-check``, and the plot of scores against parameters from the first.
"""

import argparse
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRONT = "default-seeds-1-2-3"
#: page, and the name of its mark, by the folder of the report
PLACES = {FRONT: (ROOT / "README.md", "results"), "mini-check": (ROOT / "docs" / "miniature.md", "check")}
PLOT = "tradeoff-mini-bart-image-text.png"


def tables(markdown: str) -> str:
    """Return the tables of a report's results.md with their titles, without captions and comments."""
    parts = re.findall(r"^### (.+)\n\n((?:\|.*\n)+)", markdown, flags=re.MULTILINE)
    return "\n".join(f"{title}\n\n{table}" for title, table in parts)


def replaced(page: str, mark: str, content: str) -> str:
    """Return a page with other content between the marks of a name; the marks stay.

    Raises:
        ValueError: the page has no such marks.
    """
    pattern = re.compile(rf"(<!-- {mark}:begin.*?-->\n).*?(<!-- {mark}:end -->)", flags=re.DOTALL)
    text, count = pattern.subn(lambda match: f"{match[1]}{content}{match[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places called {mark}")
    return text


def main() -> None:
    """Write the tables of those reports that exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="reports folder (reports)")
    parser.add_argument("--front", default=FRONT, help=f"report whose tables the front page has ({FRONT})")
    arguments = parser.parse_args()
    reports, front = arguments.reports, arguments.front
    for name, (page, mark) in PLACES.items():
        source = reports / (front if name == FRONT else name) / "results.md"
        if not source.is_file():
            print(f"{source}: not there, {page.name} stays as it is")
            continue
        content = replaced(page.read_text(encoding="utf-8"), mark, tables(source.read_text(encoding="utf-8")))
        page.write_text(content, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")
    plot = reports / front / "plots" / PLOT
    if plot.is_file():
        shutil.copyfile(plot, ROOT / "docs" / "tradeoff.png")


if __name__ == "__main__":
    main()
