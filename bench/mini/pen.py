"""Drawing in the coordinates of a stage, as the clips of the miniature world are drawn."""

from collections.abc import Sequence

from PIL import ImageDraw

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]


def shade(colour: RGB, factor: float) -> RGB:
    """Return a darker colour."""
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


class Pen:
    """Draws in the coordinates of a stage of 192 x 192, moved and grown as a hand-held camera would have it."""

    def __init__(self, draw: ImageDraw.ImageDraw, dx: float, dy: float, zoom: float) -> None:
        self._draw, self._dx, self._dy, self._zoom = draw, dx, dy, zoom

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the stage lies in the picture."""
        return 96 + self._dx + (x - 96) * self._zoom, 96 + self._dy + (y - 96) * self._zoom

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        """Draw an ellipse about a centre."""
        self._draw.ellipse(
            (*self.at(x - rx, y - ry), *self.at(x + rx, y + ry)), fill=colour, outline=shade(colour, 0.6)
        )

    def area(self, points: Points, colour: RGB) -> None:
        """Draw a polygon."""
        self._draw.polygon([self.at(x, y) for x, y in points], fill=colour, outline=shade(colour, 0.6))

    def line(self, points: Points, colour: RGB, width: int = 4) -> None:
        """Draw a line through points."""
        self._draw.line([self.at(x, y) for x, y in points], fill=colour, width=width)

    def arc(self, x: float, y: float, radius: float, begin: float, end: float, colour: RGB, width: int = 4) -> None:
        """Draw a part of a circle, from one angle to another, in degrees clockwise from three o'clock."""
        box = (*self.at(x - radius, y - radius), *self.at(x + radius, y + radius))
        self._draw.arc(box, begin, end, fill=colour, width=width)
