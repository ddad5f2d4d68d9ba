"""What the clips of the miniature world show: animals that do something in a room, and food that is cooked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.mini.pen import RGB, Pen, shade
from bench.mini.world import Clip


def draw_stage(pen: Pen, clip: Clip) -> None:
    """Draw the place of a clip: the room, or the dish."""
    (_ROOMS if clip.kind == "tv" else _DISHES)[clip.place](pen)


def draw_event(pen: Pen, clip: Clip, index: int) -> None:
    """Draw who does what in an event of a clip, or which food and what is done with it."""
    event = clip.events[index]
    if clip.kind == "tv":
        _ACTIONS[event.what](pen, _ACTORS[event.who])
    else:
        _FOODS[event.who](pen)
        _VERBS[event.what](pen)


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
    dark = shade(animal.colour, 0.7)
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
    dark = shade(animal.colour, 0.7)
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
