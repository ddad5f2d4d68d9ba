"""The laws of the architecture, read off the source: what may import what, which names may stand where."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
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
VAGUE = {"found", "known", "told", "said", "here", "whole", "having", "routed", "asked"}
HF_NAMES = ("encoder_attn", "EncDecAttention", "DenseReluDense", "self_attn", "self_attn_layer_norm", "SelfAttention")
KNOW_HF_NAMES = ("methods/core/sites.py", "bench/backbones/bart.py", "bench/backbones/t5.py")


def parsed(room: Path) -> list[tuple[Path, ast.Module]]:
    files = sorted(room.rglob("*.py"))
    assert files, f"no such room: {room}"
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def import_statements(file: Path, root: Path) -> Iterator[tuple[str, str | None]]:
    """Every module a file imports, at any depth of its functions, as an absolute dotted name, with the name that is
    imported from it (None for ``import module``)."""
    package = file.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield from ((module, alias.name) for alias in node.names)


def imported(file: Path, root: Path) -> set[str]:
    """Every module or name that a file imports, as absolute dotted names."""
    return {name for module, item in import_statements(file, root) for name in (module, f"{module}.{item}")}


def import_graph(root: Path, rooms: tuple[str, ...] = ("bench", "methods")) -> dict[str, set[str]]:
    """For every module the modules of ``rooms`` that it imports, in functions and for type checkers as well.

    ``from package import module`` is an import of the module, ``from package import name`` one of the package.
    """
    files = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for room in rooms
        for file in (root / room).rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        pairs = import_statements(file, root)
        names = {f"{name}.{item}" if f"{name}.{item}" in files else name for name, item in pairs}
        graph[module] = (names & files.keys()) - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or by way of others."""
    reached = {module: {module} for module in graph}
    changed = True
    while changed:
        changed = False
        for module, imports in graph.items():
            new = set().union(reached[module], *(reached[name] for name in imports))
            changed |= new != reached[module]
            reached[module] = new
    groups = {tuple(sorted(other for other in reached[module] if module in reached[other])) for module in graph}
    return [list(group) for group in sorted(groups) if len(group) > 1]


@pytest.mark.parametrize(("room", "never"), FORBIDDEN, ids=[room for room, _ in FORBIDDEN])
def test_a_room_never_imports(repo: Path, room: str, never: tuple[str, ...]) -> None:
    broken = {
        f"{file.relative_to(repo)} imports {module}"
        for file, _ in parsed(repo / room)
        for module in imported(file, repo)
        if any(module == name or module.startswith(f"{name}.") for name in never)
    }
    assert not broken


@pytest.mark.parametrize("room", ["bench", "methods"])
def test_no_modules_import_each_other(repo: Path, room: str) -> None:
    broken = [circle for circle in circles(import_graph(repo)) if any(name.split(".")[0] == room for name in circle)]
    assert not broken


def test_a_circle_is_seen_even_in_functions_and_for_type_checkers(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").write_text("")
    (tmp_path / "house" / "one.py").write_text("def f():\n    from house import two\n")
    (tmp_path / "house" / "two.py").write_text("from house.three import x\n")
    (tmp_path / "house" / "three.py").write_text("if TYPE_CHECKING:\n    from .one import f\nx = 1\n")
    assert circles(import_graph(tmp_path, ("house",))) == [["house.one", "house.three", "house.two"]]


@pytest.mark.parametrize("module", ["bench", "methods", "bench.tasks", "bench.config", "bench.cli"])
def test_light_modules_do_not_import_torch(repo: Path, module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0


def test_importing_methods_imports_nothing_else_of_it(repo: Path) -> None:
    code = (
        "import sys, methods; sys.exit('pydantic' in sys.modules or any(m.startswith('methods.') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0


def test_no_module_is_long(repo: Path) -> None:
    files = [f for room in ("bench", "methods") for f in (repo / room).rglob("*.py")]
    long = {str(f.relative_to(repo)): n for f in files if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_no_class_name_stands_twice(repo: Path) -> None:
    places = defaultdict(list)
    for room in ("bench", "methods", "slurm"):
        for file, tree in parsed(repo / room):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(file.relative_to(repo)))
    assert not {name: files for name, files in places.items() if len(files) > 1}


@pytest.mark.parametrize("room", ["bench", "methods", "slurm"])
def test_names_are_nouns_and_verbs_of_the_field(repo: Path, room: str) -> None:
    """Words that say nothing of what a thing is are no names: of variables, parameters, attributes, functions."""
    broken = set()
    for file, tree in parsed(repo / room):
        for node in ast.walk(tree):
            name = ""
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = node.id if isinstance(node, ast.Name) else node.attr
            elif isinstance(node, ast.arg):
                name = node.arg
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = node.name
            if name.strip("_").lower() in VAGUE:
                broken.add(f"{file.relative_to(repo)}:{node.lineno} {name}")  # type: ignore[attr-defined]
    assert not broken


def test_blocks_know_no_backbone_and_no_family(repo: Path) -> None:
    families = {
        f"methods.{path.stem}"
        for path in (repo / "methods").iterdir()
        if path.stem not in ("core", "blocks", "__init__", "__pycache__", "py")
    }
    never = (*families, "methods.core.sites", "methods.core.spec", "methods.core.shape", "transformers")
    broken = set()
    for file, tree in parsed(repo / "methods" / "blocks"):
        broken |= {
            f"{file.name} imports {module}"
            for module in imported(file, repo)
            if any(module == name or module.startswith(f"{name}.") for name in never)
        }
        text = {
            node.value.lower() for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
        }
        broken |= {f"{file.name} names {family}" for family in ("bart", "t5") if any(family in value for value in text)}
    assert not broken


@pytest.mark.parametrize("room", ["bench", "methods", "slurm"])
def test_hf_module_names_live_in_one_file(repo: Path, room: str) -> None:
    """Only sites.py and the backbone families may know how HF calls its attention and feed-forward modules, so that a
    new release costs few edits."""
    knowing = {
        str(file.relative_to(repo))
        for file, tree in parsed(repo / room)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Constant)
        and (node.attr if isinstance(node, ast.Attribute) else node.value) in HF_NAMES
    }
    assert knowing <= set(KNOW_HF_NAMES)


def test_only_one_file_sets_private_attributes_of_other_objects(repo: Path) -> None:
    """Facts about a forward pass ride on tensors in methods/core/replay.py alone."""
    setting = {
        f"{file.relative_to(repo)}:{node.lineno}"
        for file, tree in parsed(repo / "methods")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr.startswith("_")
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    assert not setting
    sources = {file.name for file in (repo / "methods").rglob("*.py") if "_of_the_forward_pass" in file.read_text()}
    assert sources == {"replay.py"}
