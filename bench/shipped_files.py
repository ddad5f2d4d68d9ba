"""Files of the repository that an installed distribution brings as well: published numbers and Slurm profiles.

Their one source are folders at the top of the repository. ``setup.py`` copies them into the package when a wheel is
built; a checkout, or an editable installation of it, reads them where they are.
"""

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent
#: the name of a folder in ``bench/shipped`` of a wheel -> its source in the repository; ``setup.py`` reads this table
SOURCES = {"paper": "results/paper", "profiles": "slurm/profiles"}


def shipped(name: Literal["paper", "profiles"]) -> Path:
    """Return the folder of the published numbers ("paper") or of the Slurm profiles ("profiles")."""
    installed = PACKAGE / "shipped" / name
    return installed if installed.is_dir() else PACKAGE.parent / SOURCES[name]
