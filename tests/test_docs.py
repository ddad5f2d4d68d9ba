"""The examples of docs/adding.md are real: they work as they are printed there."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.data.roots import locate

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "adding.md"
BLOCK = re.compile(r"^```\w+\n# file: (\S+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def sections() -> dict[str, dict[str, str]]:
    """The files of every section that has some, by the section's heading and the file's path."""
    parts = re.split(r"^## (.+)\n", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    files = {heading: dict(BLOCK.findall(text)) for heading, text in zip(parts[::2], parts[1::2], strict=True)}
    return {heading: examples for heading, examples in files.items() if examples}


def install(folder: Path) -> None:
    """Do what ``pip install -e`` does for the entry points of the folder's pyproject: write them down as metadata."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write(files: dict[str, str], folder: Path, repo: Path) -> None:
    """Write the files of a section; those that belong into this repository's packages go into a copy of these.

    A file that is there already is changed: the section then holds a difference, without line numbers.
    """
    for package in {path.split("/")[0] for path in files} & {"bench", "methods"}:
        shutil.copytree(repo / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        content = patched(file.read_text(encoding="utf-8"), text, path) if file.exists() else text
        file.write_text(content, encoding="utf-8")


def patched(content: str, difference: str, path: str) -> str:
    """Apply a difference, whose hunks are separated by lines ``@@``; each must fit exactly one place."""
    for hunk in difference.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        assert all(line[0] in " -+" for line in lines), f"{path} exists in this repository: a difference is needed"
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert content.count(old) == 1, f"{path}: these lines are there {content.count(old)} times:\n{old}"
        content = content.replace(old, new)
    return content


@pytest.mark.slow
@pytest.mark.parametrize("heading", sections())
def test_the_files_of_a_section_work(heading: str, repo: Path, tmp_path: Path) -> None:
    files = sections()[heading]
    write(files, tmp_path, repo)
    if "pyproject.toml" in files:
        install(tmp_path)
    checks = [path for path in files if path.startswith("check_")]
    assert checks, "a section with files has a check_*.py"
    data = locate("mini", "image-text", {})  # drawn once for all tests
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / data.name).symlink_to(data)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(repo)]),
        "VLPET_BENCH_CACHE": str(tmp_path / "cache"),
    }
    for check in checks:
        done = subprocess.run(
            [sys.executable, check], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{check}:\n{done.stderr}"


def test_the_examples_are_formatted_as_the_code_is(repo: Path, tmp_path: Path) -> None:
    for heading, files in sections().items():
        for path, text in files.items():
            if path.endswith(".py") and not (repo / path).exists():
                file = tmp_path / heading.replace(" ", "_") / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    line = ["--config", "line-length=120"]
    for command in ([*ruff, "format", "--check", *line], [*ruff, "check", "--isolated", *line]):
        done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
