"""Pictures of the miniature world: scenes and the frames of clips, drawn with Pillow, 96 pixels wide.

A picture is meant to be looked at, and to be more than its labels: things move about in their cells and turn, grow and
shrink, their colours vary, a bar may hide a part of them, small grey bits lie about, light falls from one side and has
a colour, and every pixel has noise. Nothing here was photographed or copied.

All chance comes from the ``random.Random`` of the caller, so the same seed gives the same picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from bench.mini.world import PIXELS, SIDE, Clip, Scene, Thing

SCALE = 2  # drawn this many times larger, and reduced: edges are smooth
CELL = PIXELS * SCALE // SIDE

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
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
    background = (_ROOMS if clip.kind == "tv" else _DISHES)[clip.place]
    tint = rng.choice(BACKGROUNDS)
    for frame in range(clip.frames):
        index = clip.event_at(frame)
        event = clip.events[index]
        image, draw = _canvas(rng, tint)
        pen = Pen(draw, rng.randint(-7, 7), rng.randint(-7, 7), rng.uniform(0.9, 1.08))
        background(pen)
        _clutter(draw, rng, rng.randint(0, 4))
        if clip.kind == "tv":
            _ACTIONS[event.what](pen, _ACTORS[event.who])
        else:
            _FOODS[event.who](pen)
            _VERBS[event.what](pen)
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


# --- scenes ----------------------------------------------------------------------------------------------------------


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, rng: Random) -> None:
    radius = rng.uniform(0.35, 0.45) * CELL
    x = (thing.column + 0.5) * CELL + rng.randint(-6, 6)
    y = (thing.row + 0.5) * CELL + rng.randint(-6, 6)
    colour = _vary(COLOUR_VALUES[thing.colour], rng, COLOUR_SPREAD)
    edge = _shade(colour, 0.6)
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


def _shade(colour: RGB, factor: float) -> RGB:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


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


# --- clips -----------------------------------------------------------------------------------------------------------


class Pen:
    """Draws in the coordinates of a stage of 192 x 192, moved and grown as the camera has it."""

    def __init__(self, draw: ImageDraw.ImageDraw, dx: float, dy: float, zoom: float) -> None:
        self._draw, self._dx, self._dy, self._zoom = draw, dx, dy, zoom

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the stage lies in the picture."""
        return 96 + self._dx + (x - 96) * self._zoom, 96 + self._dy + (y - 96) * self._zoom

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        """Draw an ellipse about a centre."""
        self._draw.ellipse(
            (*self.at(x - rx, y - ry), *self.at(x + rx, y + ry)), fill=colour, outline=_shade(colour, 0.6)
        )

    def area(self, points: Points, colour: RGB) -> None:
        """Draw a polygon."""
        self._draw.polygon([self.at(x, y) for x, y in points], fill=colour, outline=_shade(colour, 0.6))

    def line(self, points: Points, colour: RGB, width: int = 4) -> None:
        """Draw a line through points."""
        self._draw.line([self.at(x, y) for x, y in points], fill=colour, width=width)

    def arc(self, x: float, y: float, radius: float, begin: float, end: float, colour: RGB, width: int = 4) -> None:
        """Draw a part of a circle, from one angle to another, in degrees clockwise from three o'clock."""
        box = (*self.at(x - radius, y - radius), *self.at(x + radius, y + radius))
        self._draw.arc(box, begin, end, fill=colour, width=width)


def _kitchen(pen: Pen) -> None:
    for i in range(0, 192, 24):
        pen.line([(i, 0), (i, 100)], (200, 205, 210), 2)
        pen.line([(0, i // 2), (192, i // 2)], (200, 205, 210), 2)
    pen.area([(0, 150), (192, 150), (192, 200), (0, 200)], (150, 110, 80))


def _garden(pen: Pen) -> None:
    pen.area([(-20, 140), (212, 140), (212, 212), (-20, 212)], (95, 150, 80))
    pen.oval(22, 24, 13, 13, (240, 210, 90))
    for x in range(8, 192, 30):
        pen.line([(x, 150), (x + 4, 138), (x + 8, 150)], (60, 120, 60), 3)


def _hall(pen: Pen) -> None:
    for x in (12, 66, 120, 174):
        pen.area([(x - 6, 0), (x + 6, 0), (x + 6, 150), (x - 6, 150)], (190, 175, 150))
    pen.area([(-20, 150), (212, 150), (212, 212), (-20, 212)], (120, 60, 60))


def _attic(pen: Pen) -> None:
    pen.line([(-10, 90), (96, -10), (202, 90)], (110, 80, 55), 12)
    pen.line([(48, 40), (48, 150)], (110, 80, 55), 6)
    pen.area([(-20, 152), (212, 152), (212, 212), (-20, 212)], (165, 135, 100))


_ROOMS = (_kitchen, _garden, _hall, _attic)


@dataclass(frozen=True)
class Animal:
    """How an actor looks: its colour, its size, what its head has, and its tail."""

    colour: RGB
    size: float
    head: str
    tail: str


#: of the world's ACTORS
_ACTORS = (
    Animal((145, 145, 150), 1.0, "pointed", "long"),
    Animal((170, 115, 65), 1.05, "hanging", "short"),
    Animal((80, 130, 210), 0.6, "beak", "feathers"),
    Animal((220, 105, 40), 1.0, "pointed", "bushy"),
    Animal((95, 65, 50), 1.35, "round", "none"),
    Animal((240, 225, 110), 0.75, "bill", "feathers"),
    Animal((235, 232, 225), 1.1, "horns", "short"),
)


def _draw_animal(pen: Pen, animal: Animal, x: float, y: float, legs: Sequence[float] = (), bow: float = 0) -> None:
    """Draw an animal that looks to the right.

    Args:
        pen: draws it.
        animal: its looks.
        x: where the middle of its body is, from the left.
        y: the same, from the top.
        legs: how far each of four feet is to the right of where it would stand; birds have the outer two.
        bow: how far the head is lowered.
    """
    long, high = 40 * animal.size, 23 * (0.55 + 0.45 * animal.size)
    dark = _shade(animal.colour, 0.7)
    feet = legs[:: max(1, len(legs) - 1)] if animal.head in ("beak", "bill") else legs
    for index, foot in enumerate(feet):
        hip = x + (-0.7 + 1.4 * index / (len(feet) - 1)) * long
        pen.line([(hip, y), (hip + foot, y + high + 20)], dark, 7)
    back, neck, radius = x - long, y - high + bow, 17 * (0.7 + 0.3 * animal.size)
    if animal.tail == "long":
        pen.line([(back, y), (back - 20, y - 16), (back - 14, y - 36)], dark, 6)
    elif animal.tail == "bushy":
        pen.oval(back - 16, y - 8, 20, 11, animal.colour)
    elif animal.tail == "short":
        pen.line([(back, y - 4), (back - 13, y - 14)], dark, 7)
    elif animal.tail == "feathers":
        pen.area([(back + 6, y), (back - 22, y - 16), (back - 22, y + 4)], dark)
    pen.oval(x, y, long, high, animal.colour)
    _draw_head(pen, animal, x + long + 4, neck, radius)


def _draw_head(pen: Pen, animal: Animal, x: float, y: float, radius: float) -> None:
    """Draw a head about a centre."""
    dark = _shade(animal.colour, 0.7)
    if animal.head == "pointed":
        pen.area([(x - radius, y - 5), (x - radius + 3, y - radius - 15), (x - 1, y - radius + 2)], dark)
        pen.area([(x + 1, y - radius + 2), (x + radius - 3, y - radius - 15), (x + radius, y - 5)], dark)
    elif animal.head == "round":
        pen.oval(x - radius, y - radius, 8, 8, dark)
        pen.oval(x + radius - 2, y - radius, 8, 8, dark)
    elif animal.head == "horns":
        pen.line([(x - 6, y - radius), (x - 20, y - radius - 20)], (90, 80, 70), 6)
        pen.line([(x + 4, y - radius), (x - 6, y - radius - 22)], (90, 80, 70), 6)
    pen.oval(x, y, radius, radius, animal.colour)
    if animal.head == "beak":
        pen.area([(x + radius - 3, y - 4), (x + radius + 13, y + 2), (x + radius - 3, y + 7)], (235, 170, 40))
    elif animal.head == "bill":
        pen.oval(x + radius + 6, y + 4, 12, 5, (235, 140, 40))
    elif animal.head == "hanging":
        pen.oval(x - 9, y + 3, 6, 15, dark)
    pen.oval(x + 5, y - 4, 3, 3, (20, 20, 20))


def _runs(pen: Pen, animal: Animal) -> None:
    for y in (92, 108, 124):
        pen.line([(4, y), (34, y)], (240, 240, 240), 4)
    _draw_animal(pen, animal, 98, 112, (-24, -12, 16, 26))


def _jumps(pen: Pen, animal: Animal) -> None:
    pen.oval(92, 172, 40, 7, (60, 60, 60))
    pen.line([(60, 160), (60, 138)], (240, 240, 240), 4)
    pen.line([(120, 160), (120, 138)], (240, 240, 240), 4)
    _draw_animal(pen, animal, 88, 78, (-14, -12, 12, 14))


def _sleeps(pen: Pen, animal: Animal) -> None:
    _draw_animal(pen, animal, 84, 146, bow=22)
    for x, y, s in ((120, 84, 10), (138, 58, 14)):
        pen.line([(x, y), (x + s, y), (x, y + s), (x + s, y + s)], (30, 30, 120), 4)


def _eats(pen: Pen, animal: Animal) -> None:
    _draw_animal(pen, animal, 76, 118, (0, 0, 0, 0), bow=34)
    pen.area([(122, 156), (178, 156), (168, 176), (132, 176)], (190, 60, 70))
    pen.oval(150, 155, 26, 6, (120, 80, 40))


def _sings(pen: Pen, animal: Animal) -> None:
    _draw_animal(pen, animal, 78, 122, (0, 0, 0, 0), bow=-10)
    for x, y in ((144, 40), (170, 58)):
        pen.oval(x, y, 6, 5, (20, 20, 20))
        pen.line([(x + 5, y), (x + 5, y - 24), (x + 14, y - 18)], (20, 20, 20), 3)


def _digs(pen: Pen, animal: Animal) -> None:
    pen.oval(150, 170, 34, 12, (60, 40, 25))
    pen.area([(20, 176), (44, 146), (68, 176)], (115, 80, 50))
    _draw_animal(pen, animal, 84, 116, (-4, 0, 20, 26), bow=24)
    for x, y in ((140, 138), (158, 126), (172, 142)):
        pen.oval(x, y, 4, 4, (115, 80, 50))


def _waits(pen: Pen, animal: Animal) -> None:
    _draw_animal(pen, animal, 84, 120, (0, 0, 0, 0))
    pen.oval(158, 36, 21, 21, (240, 240, 240))
    pen.line([(158, 22), (158, 36), (168, 42)], (20, 20, 20), 4)


_ACTIONS = (_runs, _jumps, _sleeps, _eats, _sings, _digs, _waits)


def _pan(pen: Pen) -> None:
    pen.area([(10, 150), (110, 150), (100, 172), (20, 172)], (60, 60, 65))
    pen.line([(108, 154), (176, 144)], (90, 60, 40), 9)


def _bowl(pen: Pen) -> None:
    pen.area([(10, 140), (116, 140), (92, 180), (34, 180)], (215, 205, 190))


def _pot(pen: Pen) -> None:
    pen.area([(16, 128), (108, 128), (108, 180), (16, 180)], (140, 60, 55))
    pen.oval(10, 142, 7, 7, (90, 40, 35))
    pen.oval(114, 142, 7, 7, (90, 40, 35))


def _jar(pen: Pen) -> None:
    pen.area([(34, 124), (88, 124), (88, 182), (34, 182)], (165, 205, 215))
    pen.area([(38, 114), (84, 114), (84, 124), (38, 124)], (110, 110, 115))


_DISHES = (_pan, _bowl, _pot, _jar)


def _onion(pen: Pen) -> None:
    pen.oval(62, 74, 30, 27, (175, 95, 135))
    pen.line([(62, 48), (56, 30)], (120, 150, 80), 6)
    pen.arc(62, 74, 17, 200, 340, (240, 215, 230), 3)


def _egg(pen: Pen) -> None:
    pen.oval(62, 74, 24, 32, (245, 232, 212))


def _rice(pen: Pen) -> None:
    pen.area([(24, 98), (62, 52), (100, 98)], (250, 250, 248))
    for x, y in ((50, 86), (62, 72), (74, 88), (60, 94)):
        pen.line([(x, y), (x + 6, y - 4)], (180, 180, 175), 3)


def _fish(pen: Pen) -> None:
    pen.area([(28, 74), (8, 54), (8, 94)], (100, 140, 175))
    pen.oval(64, 74, 40, 19, (125, 170, 205))
    pen.oval(88, 70, 4, 4, (20, 20, 20))


def _bean(pen: Pen) -> None:
    pen.arc(62, 100, 42, 200, 340, (125, 50, 45), 20)


def _corn(pen: Pen) -> None:
    pen.area([(44, 108), (30, 74), (52, 84)], (90, 150, 70))
    pen.oval(62, 70, 15, 37, (235, 200, 60))
    for y in (48, 62, 76, 90):
        pen.line([(50, y), (74, y)], (190, 150, 40), 2)


def _leek(pen: Pen) -> None:
    pen.line([(40, 112), (60, 74)], (240, 245, 230), 15)
    pen.line([(60, 74), (78, 34)], (75, 145, 75), 15)
    pen.line([(62, 72), (98, 46)], (75, 145, 75), 9)


_FOODS: tuple[Callable[[Pen], None], ...] = (_onion, _egg, _rice, _fish, _bean, _corn, _leek)


def _chop(pen: Pen) -> None:
    pen.area([(118, 96), (176, 66), (182, 82), (124, 106)], (205, 210, 215))
    pen.line([(176, 72), (190, 62)], (60, 40, 30), 12)


def _mix(pen: Pen) -> None:
    pen.arc(146, 88, 28, 20, 330, (250, 250, 250), 5)
    pen.line([(146, 88), (176, 34)], (150, 100, 60), 8)
    pen.oval(146, 90, 9, 12, (150, 100, 60))


def _fry(pen: Pen) -> None:
    for x in (128, 148, 168):
        pen.area([(x - 10, 116), (x, 74), (x + 10, 116)], (235, 110, 35))
        pen.area([(x - 5, 116), (x, 94), (x + 5, 116)], (245, 210, 70))


def _pour(pen: Pen) -> None:
    pen.area([(132, 40), (182, 34), (186, 70), (142, 76)], (190, 195, 205))
    pen.line([(134, 58), (122, 84), (120, 122)], (90, 150, 225), 9)


def _peel(pen: Pen) -> None:
    for x in (124, 142, 160):
        pen.arc(x, 78, 12, 90, 330, (150, 190, 70), 6)
        pen.arc(x, 102, 12, 270, 120, (150, 190, 70), 6)


def _boil(pen: Pen) -> None:
    for x, y, r in ((128, 112, 11), (150, 96, 14), (170, 70, 10), (138, 66, 8), (162, 118, 7)):
        pen.arc(x, y, r, 0, 360, (225, 240, 250), 4)


def _grate(pen: Pen) -> None:
    pen.area([(126, 116), (138, 42), (168, 42), (180, 116)], (175, 180, 185))
    for y in (58, 76, 94):
        for x in (142, 153, 164):
            pen.oval(x, y, 3, 4, (50, 50, 55))


_VERBS: tuple[Callable[[Pen], None], ...] = (_chop, _mix, _fry, _pour, _peel, _boil, _grate)
