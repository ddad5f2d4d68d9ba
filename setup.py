"""Copies the folders of the repository that ``bench.shipped_files`` names into the package when it is built.

Everything else about the distribution is in pyproject.toml.
"""

import ast
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def sources() -> dict[str, str]:
    """Return the table SOURCES of ``bench/shipped_files.py``; a build has no dependencies with which to import it."""
    module = ast.parse((ROOT / "bench" / "shipped_files.py").read_text(encoding="utf-8"))
    assignments = [node for node in module.body if isinstance(node, ast.Assign)]
    (table,) = [node.value for node in assignments if getattr(node.targets[0], "id", "") == "SOURCES"]
    return ast.literal_eval(table)


class BuildWithShippedFiles(build_py):
    """Also copies the shipped files; not for an editable installation, which reads them in the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        shipped = [] if self.editable_mode else [str(target) for _, target in self._shipped()]
        return [*super().get_outputs(include_bytecode), *shipped]

    def _shipped(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib) / "bench" / "shipped"
        return [
            (file, folder / name / file.name)
            for name, source in sources().items()
            for file in sorted((ROOT / source).iterdir())
            if file.is_file()
        ]


setup(cmdclass={"build_py": BuildWithShippedFiles})
