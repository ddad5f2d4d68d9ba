"""The picture of a report's page on the front page: ``python -m benchmarks.screenshot`` (needs Chromium)."""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.readme_tables import FRONT, ROOT

OUT = ROOT / "docs" / "images" / "report-page.png"
WIDTH, HEIGHT = 1280, 1500


def main() -> None:
    """Photograph the upper part of the page, in light colours, with 256 of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / FRONT / "report.html", help="the page")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None or not arguments.report.is_file():
        parser.error("chromium is not installed" if chromium is None else f"{arguments.report}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        options = [f"--window-size={WIDTH},{HEIGHT}", "--hide-scrollbars", f"--screenshot={shot}"]
        page = arguments.report.resolve().as_uri()
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *options, page]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        OUT.parent.mkdir(exist_ok=True)
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(256).save(OUT, optimize=True)
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
