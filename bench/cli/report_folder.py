"""The folder of a report: that of its sweep, never that of a report of another plan.

``plan.json`` in it says whose it is and which files the report has written, so that a later report of the same plan can
take those away that it does not write again. Other files in the folder are nobody's business.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from bench.files import create_once, json_bytes, parse_json, read_bytes, write_bytes
from bench.sweep.spec import Sweep

PLAN = "plan.json"
PAGE = "report.html"


@dataclass(frozen=True)
class ReportFolder:
    """A folder that belongs to the report of one plan, and the files that the last report has written there."""

    path: Path
    sweep: Sweep
    files: tuple[str, ...] = ()

    @classmethod
    def claim(cls, reports: Path, sweep: Sweep) -> "ReportFolder":
        """Return the folder for the report of a sweep; one beside it, with a note, where another plan has the place.

        Raises:
            OSError: the folder for reports cannot be written.
        """
        name = sweep.folder or sweep.name
        for number in count(1):
            path = reports / (name if number == 1 else f"{name}@{number}")
            if (files := _claimed(path, sweep)) is not None:
                if number > 1:
                    print(
                        f"note: {reports / name} has the report of another plan; this one is in {path}", file=sys.stderr
                    )
                return cls(path, sweep, files)
        raise AssertionError("the folders of a name have no end")

    def finish(self, paths: list[Path]) -> None:
        """Remove what the last report wrote and this one has not, and write down what is there now."""
        written = sorted(p.relative_to(self.path).as_posix() for p in paths if p.is_relative_to(self.path))
        for name in set(self.files) - set(written):
            with suppress(OSError):
                (self.path / name).unlink()
        write_bytes(self.path / PLAN, _content(self.sweep, written))


def _claimed(path: Path, sweep: Sweep) -> tuple[str, ...] | None:
    """Return the files of the last report where the folder is this plan's, or is so from now on; None where not."""
    if path.exists() and not path.is_dir():
        return None
    path.mkdir(parents=True, exist_ok=True)
    if not (path / PAGE).exists() and create_once(path / PLAN, _content(sweep, [])):
        return ()
    try:
        plan = parse_json(read_bytes(path / PLAN))
        if plan["sweep"] != _normal(sweep):
            return None
        return tuple(name for name in plan["files"] if _is_inside(name))
    except (OSError, ValueError, LookupError, TypeError):  # of an earlier version, or of somebody else
        return None


def _is_inside(name: Any) -> bool:
    """Return whether a name is that of a file below a folder, however the folder may have come by it."""
    return isinstance(name, str) and "\0" not in name and name not in ("", PLAN) and _is_relative(PurePosixPath(name))


def _is_relative(path: PurePosixPath) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _content(sweep: Sweep, files: list[str]) -> bytes:
    return json_bytes({"schema": 1, "sweep": _normal(sweep), "files": files})


def _normal(sweep: Sweep) -> dict[str, Any]:
    """Return the plan of a sweep; the bound on its cells is no part of it."""
    return {key: value for key, value in sweep.content().items() if key not in ("max_cells", "folder")}
