"""What is said about the miniature world: questions with answers, statements about pairs, captions, descriptions.

The same sentences serve twice: ``write.py`` puts them into the official annotation formats beside *visual* features,
and ``pretrain.py`` puts them beside *descriptions* in words. So the backbone can read and reason about this world,
but has never seen it.
"""

from random import Random

from bench.mini.world import (
    ACTIONS,
    ACTORS,
    CELLS,
    COLOURS,
    FOODS,
    SHAPES,
    SIDE,
    VERBS,
    Clip,
    Scene,
    Thing,
    draw_scene,
)

NUMBERS = ("0", "1", "2", "3")
YES_NO = ("no", "yes")
QA = tuple[str, str, str]  # question, answer, answer type of VQA v2 ("yes/no", "number", "other")


# --- scenes ----------------------------------------------------------------------------------------------------------


def phrases(scene: Scene) -> list[str]:
    """Describe every cell of a scene in a few words: what a grid of visual tokens shows, in reading order."""
    return [f"{t.name} {CELLS[i]}" if (t := scene.at(i)) else f"empty {CELLS[i]}" for i in range(SIDE * SIDE)]


def unique(scene: Scene, key: str) -> list[Thing]:
    """Return the things whose colour or shape occurs once in the scene."""
    values = [getattr(t, key) for t in scene.things]
    return [t for t in scene.things if values.count(getattr(t, key)) == 1]


def simple_question(scene: Scene, rng: Random) -> QA:
    """Draw a question in the manner of VQA: colour, kind, existence, number."""
    kind = rng.choice(("colour", "colour", "shape", "exists", "exists", "number"))
    if kind == "colour" and (one := unique(scene, "shape")):
        thing = rng.choice(one)
        return f"what color is the {SHAPES[thing.shape]}?", COLOURS[thing.colour], "other"
    if kind == "shape" and (one := unique(scene, "colour")):
        thing = rng.choice(one)
        return f"what shape is {COLOURS[thing.colour]}?", SHAPES[thing.shape], "other"
    if kind == "number":
        shape = rng.choice([rng.choice(scene.things).shape, rng.randrange(len(SHAPES))])
        count = sum(t.shape == shape for t in scene.things)
        return f"how many {SHAPES[shape]}s are there?", NUMBERS[count], "number"
    if rng.random() < 0.5:
        words, seen = _object_or_shape(rng.choice(scene.things), rng, [scene])
        return f"is there {words}?", YES_NO[seen[0]], "yes/no"
    colour, shape = _present_or_confused(scene, rng)
    both = any((t.colour, t.shape) == (colour, shape) for t in scene.things)
    return f"is there a {COLOURS[colour]} {SHAPES[shape]}?", YES_NO[both], "yes/no"


def _present_or_confused(scene: Scene, rng: Random) -> tuple[int, int]:
    """Draw a colour and shape: of a thing of the scene, or of none though one half of it may be there."""
    thing = rng.choice(scene.things)
    if rng.random() < 0.5:
        return thing.colour, thing.shape
    while True:
        colour, shape = rng.choice(((thing.colour, rng.randrange(6)), (rng.randrange(6), thing.shape)))
        if all((t.colour, t.shape) != (colour, shape) for t in scene.things):
            return colour, shape


def _object_or_shape(thing: Thing, rng: Random, scenes: list[Scene]) -> tuple[str, list[bool]]:
    """Draw a colour or a shape, half of the time that of a given thing, and say in which scenes it occurs."""
    key, values = rng.choice((("colour", COLOURS), ("shape", SHAPES)))
    index = getattr(thing, key) if rng.random() < 0.5 else rng.randrange(len(values))
    words = f"a {values[index]} object" if key == "colour" else f"a {values[index]}"
    return words, [any(getattr(t, key) == index for t in scene.things) for scene in scenes]


def spatial_question(scene: Scene, rng: Random) -> QA:
    """Draw a question in the manner of GQA: place, what is at a place, relation of two things."""
    kind = rng.choice(("where", "colour at", "shape at", "relation", "relation"))
    thing = rng.choice(scene.things)
    if kind == "where":
        return f"where is the {thing.name}?", CELLS[thing.cell], "other"
    if kind == "colour at":
        return f"what color is the {CELLS[thing.cell]} object?", COLOURS[thing.colour], "other"
    if kind == "shape at":
        return f"what is the {CELLS[thing.cell]} object?", SHAPES[thing.shape], "other"
    first, second = rng.sample(scene.things, 2)
    words, holds = rng.choice(
        (
            ("left of", first.column < second.column),
            ("right of", first.column > second.column),
            ("above", first.row < second.row),
            ("below", first.row > second.row),
        )
    )
    return f"is the {first.name} {words} the {second.name}?", YES_NO[holds], "yes/no"


def captions(scene: Scene) -> list[str]:
    """Return five reference captions of a scene, as five annotators might write them."""
    names = [t.name for t in scene.things]
    listed = " and ".join(f"a {n}" for n in names)
    first, last = scene.things[0], scene.things[-1]
    side = "left of" if first.column < last.column else "right of" if first.column > last.column else "above"
    return [
        f"{listed}.",
        f"There is {listed}.",
        f"a {first.name} {side} a {last.name}.",
        f"a {first.name} at the {CELLS[first.cell]} and a {last.name} at the {CELLS[last.cell]}.",
        f"a picture of {listed}.",
    ]


STATEMENTS = ("left", "right", "both", "any", "none")


def statement(kind: str, left: Scene, right: Scene, rng: Random) -> tuple[str, bool]:
    """Draw a statement of a kind about a pair of images in the manner of NLVR2, and whether it is true."""
    words, has = _object_or_shape(rng.choice(rng.choice((left, right)).things), rng, [left, right])
    return {
        "left": (f"the left image contains {words}.", has[0]),
        "right": (f"the right image contains {words}.", has[1]),
        "both": (f"both images contain {words}.", all(has)),
        "any": (f"one of the images contains {words}.", any(has)),
        "none": (f"no image contains {words}.", not any(has)),
    }[kind]


def balanced_statement(rng: Random) -> tuple[str, bool, Scene, Scene]:
    """Draw a kind and a truth by fair coins, then pairs of scenes until a statement has both: its form says nothing."""
    kind, wanted = rng.choice(STATEMENTS), rng.random() < 0.5
    while True:
        left, right = draw_scene(rng), draw_scene(rng)
        text, truth = statement(kind, left, right, rng)
        if truth == wanted:
            return text, truth, left, right


# --- clips -----------------------------------------------------------------------------------------------------------


def clip_phrases(clip: Clip, frames: int) -> list[str]:
    """Describe each frame of a clip in a few words, padded to ``frames`` the way the feature files are."""
    shown = []
    for frame in range(frames):
        if frame >= clip.frames:
            shown.append("nothing")
            continue
        event = clip.event_at(frame)
        shown.append(f"{('early', 'late')[event]} {' '.join(clip.words(event))}")
    return shown


def subtitles(clip: Clip, rng: Random) -> list[str]:
    """Return what is said in a clip: where we are (TV) or which dish is used (kitchen), and small talk."""
    talk = rng.choice(("well now.", "look here.", "all right.", "hello there."))
    where = f"we are in the {clip.place_word}." if clip.kind == "tv" else f"take the {clip.place_word}."
    return rng.sample((talk, where), 2)


def choice_question(clip: Clip, rng: Random, choices: int) -> tuple[str, list[str], int, int]:
    """Draw a multiple-choice question: question, choices, index of the right one, and the event it is about.

    Only the right choice occurs in the clip. Choices are listed in the order of the world's vocabulary, as in a menu.
    """
    event = rng.randrange(len(clip.events))
    part = rng.randrange(2)
    question = {"tv": ("who is here?", "what happens?")}.get(clip.kind, ("which food is used?", "what is done?"))[part]
    pool = {"tv": (ACTORS, ACTIONS)}.get(clip.kind, (FOODS, VERBS))[part]
    seen = [clip.words(e)[part] for e in range(len(clip.events))]
    wrong = rng.sample([word for word in pool if word not in seen], choices - 1)
    listed = sorted([seen[event], *wrong], key=pool.index)
    return question, listed, listed.index(seen[event]), event


def clip_captions(clip: Clip, event: int) -> list[str]:
    """Return two reference captions of one event of a clip."""
    who, what = clip.words(event)
    if clip.kind == "tv":
        return [f"The {who} {what} in the {clip.place_word}.", f"In the {clip.place_word} the {who} {what}."]
    return [f"{what} the {who} in the {clip.place_word}", f"{what} the {who} and use the {clip.place_word}"]
