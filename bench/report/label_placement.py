"""Placement of labels that do not overlap: beside points in a plane, or stacked along a margin."""

from collections.abc import Sequence
from math import cos, pi, sin

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

GAP = 1.5  # pixels kept free around a label


def beside_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    *,
    size: float,
    marker: float,
) -> None:
    """Write each text as close to its point as it fits, with a thin line to the point where it had to move away.

    Names are placed before numbers, and then points in crowded places first, because they have the fewest free spots.
    The limits of the axes and the layout must be final.

    Args:
        points: positions in data units.
        size: font size in points.
        marker: radius in points of the markers, which no text may cover.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the positions computed below hold for this layout only
    scale = figure.dpi / 72
    pixels = [tuple(axes.transData.transform(point)) for point in points]
    discs = [_around(at, marker * scale) for at in pixels]
    frame = axes.get_window_extent()
    taken: list[Bbox] = []
    crowding = [sum((x - u) ** 2 + (y - v) ** 2 for u, v in pixels) for x, y in pixels]
    for index in sorted(range(len(points)), key=lambda at: (texts[at].isdigit(), crowding[at], at)):
        label = axes.annotate(
            texts[index],
            xy=points[index],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.2},
        )
        box = label.get_window_extent()
        spot, far = _first_free(pixels[index], box.width, box.height, marker * scale, frame, discs, taken)
        label.set_position(((spot[0] - pixels[index][0]) / scale, (spot[1] - pixels[index][1]) / scale))
        taken.append(_box(spot, box.width, box.height))
        if far:
            _lead(axes, pixels[index], spot, box.width, box.height)


def _around(at: tuple[float, ...], radius: float) -> Bbox:
    return Bbox.from_bounds(at[0] - radius, at[1] - radius, 2 * radius, 2 * radius)


def _box(at: tuple[float, float], width: float, height: float) -> Bbox:
    return Bbox.from_bounds(at[0] - width / 2 - GAP, at[1] - height / 2 - GAP, width + 2 * GAP, height + 2 * GAP)


def _first_free(
    at: tuple[float, ...], width: float, height: float, clear: float, frame: Bbox, discs: list[Bbox], taken: list[Bbox]
) -> tuple[tuple[float, float], bool]:
    """Return the first spot on growing rings around a point where a label meets no marker, label or edge.

    All lengths are pixels; the second value says whether the label is so far away that it needs a line to its point.
    Where no spot is free, the one with the fewest overlaps is taken.
    """
    best, least = (at[0], at[1]), float("inf")
    for ring in range(40):
        reach = clear + 2 + ring * 3.0
        for turn in (0, 1, 7, 2, 6, 4, 3, 5) if ring == 0 else range(16):
            angle = turn * pi / (4 if ring == 0 else 8)
            spot = (at[0] + cos(angle) * (reach + width / 2), at[1] + sin(angle) * (reach + height / 2))
            box = _box(spot, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            hits = sum(box.overlaps(other) for other in taken) * 3 + sum(box.overlaps(other) for other in discs)
            if inside and not hits:
                return spot, ring > 1
            if inside and hits < least:
                best, least = spot, hits
    return best, True


def _lead(axes: Axes, point: tuple[float, ...], spot: tuple[float, float], width: float, height: float) -> None:
    """Draw a hairline from the point to the nearest edge of its label."""
    end = (
        min(max(point[0], spot[0] - width / 2), spot[0] + width / 2),
        min(max(point[1], spot[1] - height / 2), spot[1] + height / 2),
    )
    ends = axes.transData.inverted().transform([point[:2], end])
    axes.plot(ends[:, 0], ends[:, 1], color="#999999", linewidth=0.5, zorder=1, scalex=False, scaley=False)


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move values as little as needed to lie at least ``gap`` apart, inside [low, high] if they fit, in the same order.

    >>> spread_apart([1.0, 2.0, 8.0], gap=2.0, low=0.0, high=10.0)
    [0.5, 2.5, 8.0]
    """
    order = sorted(range(len(wanted)), key=lambda at: (wanted[at], at))
    clusters: list[list[float]] = []  # [sum of wanted, count, centre]
    for index in order:
        clusters.append([wanted[index], 1, wanted[index]])
        while len(clusters) > 1 and clusters[-2][2] + gap * (clusters[-2][1] + clusters[-1][1]) / 2 > clusters[-1][2]:
            total, count, _ = clusters.pop()
            merged = [clusters[-1][0] + total, clusters[-1][1] + count]
            half = gap * (merged[1] - 1) / 2
            clusters[-1] = [*merged, min(max(merged[0] / merged[1], low + half), high - half)]
    placed = [0.0] * len(wanted)
    at = 0
    for _, count, centre in clusters:
        for step in range(int(count)):
            placed[order[at]] = centre + gap * (step - (count - 1) / 2)
            at += 1
    return placed


def pixels_per_unit(axes: Axes, figure: Figure) -> float:
    """Return the height in pixels of one data unit of a linear y axis, after layout."""
    figure.draw_without_rendering()
    (_, low), (_, high) = axes.transData.transform([(0, 0), (0, 1)])
    return float(high - low)
