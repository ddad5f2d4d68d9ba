"""Pictures of the miniature world: scenes and the frames of clips, drawn with Pillow, 96 pixels wide.

A picture is meant to be looked at, and to be more than its labels: things move about in their cells and turn, grow and
shrink, their colours vary, a bar may hide a part of them, small grey bits lie about, light falls from one side and has
a colour, and every pixel has noise. Nothing here was photographed or copied.

All chance comes from the ``random.Random`` of the caller, so the same seed gives the same picture.
"""

import math
from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from bench.mini.clip_stage import draw_event, draw_stage
from bench.mini.pen import RGB, Pen, Points, shade
from bench.mini.world import PIXELS, SIDE, Clip, Scene, Thing

SCALE = 2  # drawn this many times larger, and reduced: edges are smooth
CELL = PIXELS * SCALE // SIDE

#: of the world's COLOURS, in their order
COLOUR_VALUES: tuple[RGB, ...] = (
    (205, 45, 45),
    (55, 85, 205),
    (50, 155, 70),
    (225, 195, 55),
    (35, 35, 40),
    (235, 235, 230),
)
COLOUR_SPREAD = 22  # by which a thing's red, green and blue vary
BACKGROUNDS: tuple[RGB, ...] = ((150, 140, 128), (128, 142, 148), (142, 130, 148), (134, 148, 130))
CLUTTER = (3, 9)  # number of small grey bits
HIDDEN_SHARE = 0.2  # of the things have a bar in front of them
LAMP: tuple[RGB, RGB] = ((70, 70, 75), (245, 120, 40))  # off during the first event of a clip, on during the second
NOISE = 12  # largest difference of a pixel's noise


def scene_drawing(scene: Scene, rng: Random) -> Image.Image:
    """Draw a scene, 96 x 96 pixels in RGB, a cell of the world in each ninth."""
    image, draw = _canvas(rng, rng.choice(BACKGROUNDS))
    _clutter(draw, rng, rng.randint(*CLUTTER))
    for thing in scene.things:
        _draw_thing(draw, thing, rng)
    return image.reduce(SCALE)


def clip_drawings(clip: Clip, rng: Random) -> list[Image.Image]:
    """Draw the frames of a clip, 96 x 96 pixels in RGB.

    A lamp in the corner is lit from the second event on, so that a single frame shows which event it belongs to.
    """
    drawings = []
    tint = rng.choice(BACKGROUNDS)
    for frame in range(clip.frames):
        index = clip.event_at(frame)
        image, draw = _canvas(rng, tint)
        pen = Pen(draw, rng.randint(-7, 7), rng.randint(-7, 7), rng.uniform(0.9, 1.08))
        draw_stage(pen, clip)
        _clutter(draw, rng, rng.randint(0, 4))
        draw_event(pen, clip, index)
        draw.ellipse((164, 6, 186, 28), fill=LAMP[index], outline=(20, 20, 20))
        drawings.append(image.reduce(SCALE))
    return drawings


class Light:
    """Light from one side, and a cast of colour; drawn once for a picture or a clip."""

    def __init__(self, rng: Random) -> None:
        across, down = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
        ramp = np.arange(PIXELS) / (PIXELS - 1) - 0.5
        light = rng.uniform(0.75, 1.1) * (1 + across * ramp[None, :] + down * ramp[:, None])
        self._gain = light[..., None] * np.array([rng.uniform(0.85, 1.1) for _ in range(3)])

    def photograph(self, drawing: Image.Image, rng: Random) -> Image.Image:
        """Return the drawing in this light, with noise on every pixel."""
        pixels = np.asarray(drawing, dtype=np.float64)
        noise = np.frombuffer(rng.randbytes(pixels.size), np.uint8).reshape(pixels.shape).astype(np.float64)
        lit = pixels * self._gain + (noise - 127.5) * (NOISE / 127.5)
        return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def scene_picture(scene: Scene, rng: Random) -> Image.Image:
    """Return a picture of a scene, 96 x 96 pixels in RGB."""
    drawing = scene_drawing(scene, rng)
    return Light(rng).photograph(drawing, rng)


def clip_pictures(clip: Clip, rng: Random) -> list[Image.Image]:
    """Return the frames of a clip, 96 x 96 pixels in RGB, all in the same light."""
    drawings = clip_drawings(clip, rng)
    light = Light(rng)
    return [light.photograph(drawing, rng) for drawing in drawings]


def _canvas(rng: Random, colour: RGB) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (PIXELS * SCALE, PIXELS * SCALE), _vary(colour, rng, 14))
    draw = ImageDraw.Draw(image)
    side = PIXELS * SCALE
    slope, step = rng.randint(-30, 30), rng.randint(12, 28)
    shade = _vary(colour, rng, 22)
    for x in range(-side, 2 * side, 2 * step):  # a weave, as of a tablecloth
        draw.line([(x, 0), (x + slope, side)], fill=shade, width=rng.randint(1, step))
    return image, draw


def _clutter(draw: ImageDraw.ImageDraw, rng: Random, count: int) -> None:
    for _ in range(count):
        x, y, size = rng.randrange(PIXELS * SCALE), rng.randrange(PIXELS * SCALE), rng.randint(2, 5)
        grey = rng.randint(60, 200)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(grey, grey, grey))


def _vary(colour: RGB, rng: Random, spread: int) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-spread, spread))) for value in colour)
    return red, green, blue


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, rng: Random) -> None:
    radius = rng.uniform(0.35, 0.45) * CELL
    x = (thing.column + 0.5) * CELL + rng.randint(-6, 6)
    y = (thing.row + 0.5) * CELL + rng.randint(-6, 6)
    colour = _vary(COLOUR_VALUES[thing.colour], rng, COLOUR_SPREAD)
    edge = shade(colour, 0.6)
    angle = math.radians(rng.uniform(-12, 12))
    outline = _OUTLINES[thing.shape]
    if outline:
        turned = [
            (
                x + radius * (px * math.cos(angle) - py * math.sin(angle)),
                y + radius * (px * math.sin(angle) + py * math.cos(angle)),
            )
            for px, py in outline
        ]
        draw.polygon(turned, fill=colour, outline=edge)
    else:
        box = (x - radius, y - radius, x + radius, y + radius)
        if thing.shape == 1:
            draw.ellipse(box, fill=colour, outline=edge)
        else:
            draw.ellipse(box, outline=colour, width=int(radius * 0.42))
    if rng.random() < HIDDEN_SHARE:
        grey = rng.randint(90, 165)
        width, at = rng.randint(5, 9), rng.uniform(-0.8, 0.8) * radius
        tilt = rng.randint(-14, 14)
        draw.line(
            [(x + at - tilt, y - 1.2 * radius), (x + at + tilt, y + 1.2 * radius)], fill=(grey, grey, grey), width=width
        )


def _around(count: int, radii: Sequence[float]) -> Points:
    """Points around the origin, the first at the top, at radii that repeat."""
    angles = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
    return [(radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a)) for i, a in enumerate(angles)]


def _heart() -> Points:
    turns = [2 * math.pi * i / 28 for i in range(28)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in turns
    ]


#: of the world's SHAPES: corners around the origin, none for circle and ring
_OUTLINES: tuple[Points | None, ...] = (
    [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    None,
    _around(3, [1.15]),
    _around(10, [1.15, 0.45]),
    _heart(),
    None,
)
