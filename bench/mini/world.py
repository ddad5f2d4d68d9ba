"""The miniature world: scenes of coloured shapes on a 3 x 3 grid, and short clips of actors and kitchen steps.

Everything is drawn from a ``random.Random`` that the caller seeds, so the same seed gives the same world on every
machine.
This is a synthetic world: nothing in it comes from COCO, GQA, NLVR2, TV, HowTo or YouCook2.
"""

from dataclasses import dataclass
from random import Random

#: raised when the same seed gives other files or the shipped backbones change: part of the folder's name and of every
#: run's id
VERSION = 2
FEATURE_COLUMNS = 96
PIXELS = 96  # width and height of a picture

COLOURS = ("red", "blue", "green", "yellow", "black", "white")
SHAPES = ("square", "circle", "triangle", "star", "heart", "ring")
CELLS = ("northwest", "north", "northeast", "west", "center", "east", "southwest", "south", "southeast")
SIDE = 3

ACTORS = ("cat", "dog", "bird", "fox", "bear", "duck", "goat")
ACTIONS = ("runs", "jumps", "sleeps", "eats", "sings", "digs", "waits")
ROOMS = ("kitchen", "garden", "hall", "attic")
VERBS = ("chop", "mix", "fry", "pour", "peel", "boil", "grate")
FOODS = ("onion", "egg", "rice", "fish", "bean", "corn", "leek")
DISHES = ("pan", "bowl", "pot", "jar")

FRAME_SECONDS = 1.5  # the fixed rate at which the published clip features were taken
MIN_FRAMES, MAX_FRAMES = 6, 8


@dataclass(frozen=True)
class Thing:
    """One object of a scene: indices into COLOURS, SHAPES and CELLS."""

    colour: int
    shape: int
    cell: int

    @property
    def row(self) -> int:
        """Row of the grid, 0 at the top."""
        return self.cell // SIDE

    @property
    def column(self) -> int:
        """Column of the grid, 0 at the left."""
        return self.cell % SIDE

    @property
    def name(self) -> str:
        """Colour and shape, as text names it."""
        return f"{COLOURS[self.colour]} {SHAPES[self.shape]}"


@dataclass(frozen=True)
class Scene:
    """Two or three things in different cells, in reading order."""

    things: tuple[Thing, ...]

    def at(self, cell: int) -> Thing | None:
        """Return the thing in a cell, or None where the cell is empty."""
        return next((t for t in self.things if t.cell == cell), None)


@dataclass(frozen=True)
class ClipEvent:
    """Somebody does something: indices into ACTORS and ACTIONS (``tv``) or FOODS and VERBS (``how2``, ``yc2``)."""

    who: int
    what: int


@dataclass(frozen=True)
class Clip:
    """Frames that show one or two events one after the other.

    ``cut`` is the first frame of the second event (``frames`` if there is one event only); ``place`` indexes ROOMS or
    DISHES.
    """

    kind: str  # tv | how2 | yc2
    events: tuple[ClipEvent, ...]
    frames: int
    cut: int
    place: int

    def event_at(self, frame: int) -> int:
        """Return which event (0 or 1) a frame shows."""
        return int(frame >= self.cut)

    def span(self, event: int) -> tuple[float, float]:
        """Return begin and end of an event in seconds."""
        begin, end = (0, self.cut) if event == 0 else (self.cut, self.frames)
        return begin * FRAME_SECONDS, end * FRAME_SECONDS

    def words(self, event: int) -> tuple[str, str]:
        """Return the words of who (or which food) and what (or which verb)."""
        chosen = self.events[event]
        return (
            (ACTORS[chosen.who], ACTIONS[chosen.what]) if self.kind == "tv" else (FOODS[chosen.who], VERBS[chosen.what])
        )

    @property
    def place_word(self) -> str:
        """The room or the dish."""
        return (ROOMS if self.kind == "tv" else DISHES)[self.place]


def draw_scene(rng: Random) -> Scene:
    """Draw a scene of two or three things that differ in colour-and-shape."""
    count = rng.choice((2, 2, 3, 3, 3))
    cells = sorted(rng.sample(range(SIDE * SIDE), count))
    kinds = rng.sample(range(len(COLOURS) * len(SHAPES)), count)
    return Scene(tuple(Thing(k // len(SHAPES), k % len(SHAPES), c) for k, c in zip(kinds, cells, strict=True)))


def draw_clip(rng: Random, kind: str) -> Clip:
    """Draw a clip; ``yc2`` clips are one step, the others show two events by different actors doing different
    things."""
    frames = rng.randint(MIN_FRAMES, MAX_FRAMES)
    count = 1 if kind == "yc2" else 2
    who, what = rng.sample(range(len(ACTORS)), count), rng.sample(range(len(ACTIONS)), count)
    cut = frames if count == 1 else rng.randint(3, frames - 3)
    return Clip(kind, tuple(ClipEvent(a, b) for a, b in zip(who, what, strict=True)), frames, cut, rng.randrange(4))
