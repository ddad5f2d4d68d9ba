"""The pages of venues, whose widths LaTeX tables have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Venue:
    """The page of a venue: widths of the text and of a column, height of the text, in points, and the size of its
    letters as an option of the class ``article``."""

    text: float
    column: float
    height: float
    letters: str = "10pt"


STYLES = {
    "plain": Venue(345.0, 345.0, 550.0),
    "cvpr": Venue(496.9, 236.8, 641.0),
    "neurips": Venue(397.5, 397.5, 650.0),
    "acl": Venue(455.2, 219.1, 702.0, "11pt"),
}
