"""The laws of the house, read off the source: which room may import which, and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = [
    ("methods", ("bench",)),
    (
        "bench/report",
        (
            *("torch", "transformers", "methods", "bench.backbones", "bench.train", "bench.run", "bench.evaluate"),
            *("bench.tasks", "bench.metrics"),
        ),
    ),
    ("bench/tasks", ("methods", "torch", "transformers")),
    ("bench/metrics", ("methods", "torch", "transformers")),
]


def imported(file: Path, root: Path) -> set[str]:
    """Every module a file imports, at any depth of its functions, as absolute dotted names."""
    package = file.relative_to(root).with_suffix("").parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize(("room", "never"), FORBIDDEN, ids=[room for room, _ in FORBIDDEN])
def test_a_room_never_imports(repo: Path, room: str, never: tuple[str, ...]) -> None:
    files = sorted((repo / room).rglob("*.py"))
    assert files, f"no such room: {room}"
    broken = {
        f"{file.relative_to(repo)} imports {module}"
        for file in files
        for module in imported(file, repo)
        if any(module == name or module.startswith(f"{name}.") for name in never)
    }
    assert not broken


@pytest.mark.parametrize("module", ["bench", "methods", "bench.tasks", "bench.config", "bench.cli"])
def test_light_modules_do_not_import_torch(repo: Path, module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0


def test_no_module_is_long(repo: Path) -> None:
    files = [f for room in ("bench", "methods") for f in (repo / room).rglob("*.py")]
    long = {str(f.relative_to(repo)): n for f in files if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_hf_module_names_live_in_one_file(repo: Path) -> None:
    """Only sites.py may know how HF calls its attention and feed-forward modules, so that a new release costs one
    edit."""
    names = ("encoder_attn", "EncDecAttention", "DenseReluDense", "self_attn_layer_norm", "SelfAttention")
    knowing = {
        file.name
        for file in (repo / "methods").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Constant)
        and (node.attr if isinstance(node, ast.Attribute) else node.value) in names
    }
    assert knowing <= {"sites.py"}
