"""What is installed is what a checkout is: the built wheel, in an environment that does not see this repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from bench.shipped_files import SOURCES

pytestmark = pytest.mark.slow
SLURM = ["sweep", "--methods", "lora", "--suites", "image-text", "--executor", "slurm", "--dry-run"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """The wheel, built offline from a copy of the sources, so that the checkout gets no build folder."""
    source = tmp_path_factory.mktemp("source") / "repository"
    source.mkdir()
    for name in ("bench", "methods", "results", "slurm", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md"):
        skip = shutil.ignore_patterns("__pycache__", "runs")
        whole = repo / name
        if whole.is_dir():
            shutil.copytree(whole, source / name, ignore=skip)
        else:
            shutil.copy(whole, source / name)
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", "dist", "."]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr or "Cannot import 'setuptools" in done.stderr:
        pytest.skip("needs pip and setuptools")
    assert done.returncode == 0, done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The interpreter of a new environment with the wheel, and with the dependencies of this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # Plain paths: the .pth files of these folders, an editable installation of this checkout among them, do not count.
    (site / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    return python


@pytest.fixture
def bench(installed: Path, tmp_path: Path):
    """Run a command line with the installed package in an empty folder; return its standard output."""

    def run(*words: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
        done = subprocess.run(
            [installed, "-m", "bench", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_package_is_not_that_of_the_checkout(installed: Path, tmp_path: Path, repo: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [installed, "-c", "import bench, methods; print(bench.__file__, methods.__file__)"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert str(repo) not in done.stdout


def test_every_shipped_file_is_in_the_wheel(wheel: Path, repo: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name.startswith("bench/shipped/")}
    sources = {
        f"bench/shipped/{name}/{file.name}": file.read_bytes()
        for name, folder in SOURCES.items()
        for file in (repo / folder).iterdir()
    }
    assert members == sources and len(sources) >= 5


def test_the_main_verbs_work_in_an_empty_folder(bench, tmp_path: Path) -> None:
    assert "sweep" in bench("--help")
    assert "vl-pet-large" in bench("methods", "--backbone", "mini-bart")
    assert "vqa" in bench("tasks")
    assert "granularity" in bench("ablate", "--list")
    assert "to run" in bench("sweep", "--dry-run")
    assert "python" in bench("doctor")
    assert not list(tmp_path.iterdir())


def test_published_numbers_and_profiles_are_there(bench, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    bench("report", "--methods", "lora", "--suites", "image-text", "--paper")
    for profile in ("gpu", "slurm/profiles/gpu.toml"):
        assert "#SBATCH" in bench(*SLURM, "--profile", profile)
