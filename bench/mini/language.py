"""The sentences of the miniature world: questions with answers, statements about pairs, captions, descriptions.

``write.py`` puts them into the official annotation formats beside visual *features*, and ``pretrain.py`` beside
*descriptions* in words. So the miniature backbones can read and reason about this world but have never seen it.

All functions that draw take a seeded ``random.Random``; the order of their draws is part of the data format, because
the same seed must give the same files.
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
QA = tuple[str, str, str]
"""Question, answer, and answer type of VQA v2: "yes/no", "number" or "other"."""


# --- scenes ----------------------------------------------------------------------------------------------------------


def phrases(scene: Scene) -> list[str]:
    """Return a phrase for every cell of a scene in reading order, like ``red square northwest`` or ``empty north``."""
    return [f"{t.name} {CELLS[i]}" if (t := scene.at(i)) else f"empty {CELLS[i]}" for i in range(SIDE * SIDE)]


def things_with_unique(scene: Scene, key: str) -> list[Thing]:
    """Return the things whose ``key`` ("colour" or "shape") no other thing of the scene has."""
    values = [getattr(t, key) for t in scene.things]
    return [t for t in scene.things if values.count(getattr(t, key)) == 1]


def simple_question(scene: Scene, rng: Random) -> QA:
    """Draw a question like those of VQA: about a colour, a shape, the existence of a thing, or a number."""
    kind = rng.choice(("colour", "colour", "shape", "exists", "exists", "number"))
    if kind == "colour" and (candidates := things_with_unique(scene, "shape")):
        thing = rng.choice(candidates)
        return f"what color is the {SHAPES[thing.shape]}?", COLOURS[thing.colour], "other"
    if kind == "shape" and (candidates := things_with_unique(scene, "colour")):
        thing = rng.choice(candidates)
        return f"what shape is {COLOURS[thing.colour]}?", SHAPES[thing.shape], "other"
    if kind == "number":
        shape = rng.choice([rng.choice(scene.things).shape, rng.randrange(len(SHAPES))])
        count = sum(t.shape == shape for t in scene.things)
        return f"how many {SHAPES[shape]}s are there?", NUMBERS[count], "number"
    if rng.random() < 0.5:
        words, occurs = _object_or_shape(rng.choice(scene.things), rng, [scene])
        return f"is there {words}?", YES_NO[occurs[0]], "yes/no"
    colour, shape = _present_or_confused(scene, rng)
    exists = any((t.colour, t.shape) == (colour, shape) for t in scene.things)
    return f"is there a {COLOURS[colour]} {SHAPES[shape]}?", YES_NO[exists], "yes/no"


def _present_or_confused(scene: Scene, rng: Random) -> tuple[int, int]:
    """Draw a colour and a shape: half of the time those of a thing, otherwise a combination that no thing has, with
    one half taken from a thing."""
    thing = rng.choice(scene.things)
    if rng.random() < 0.5:
        return thing.colour, thing.shape
    while True:
        colour, shape = rng.choice(((thing.colour, rng.randrange(6)), (rng.randrange(6), thing.shape)))
        if all((t.colour, t.shape) != (colour, shape) for t in scene.things):
            return colour, shape


def _object_or_shape(thing: Thing, rng: Random, scenes: list[Scene]) -> tuple[str, list[bool]]:
    """Draw a colour or a shape, half of the time that of ``thing``; return its words and whether each scene has it."""
    key, values = rng.choice((("colour", COLOURS), ("shape", SHAPES)))
    index = getattr(thing, key) if rng.random() < 0.5 else rng.randrange(len(values))
    words = f"a {values[index]} object" if key == "colour" else f"a {values[index]}"
    return words, [any(getattr(t, key) == index for t in scene.things) for scene in scenes]


def spatial_question(scene: Scene, rng: Random) -> QA:
    """Draw a question like those of GQA: about a place, what is at a place, or the relation of two things."""
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
    enumeration = " and ".join(f"a {thing.name}" for thing in scene.things)
    first, last = scene.things[0], scene.things[-1]
    side = "left of" if first.column < last.column else "right of" if first.column > last.column else "above"
    return [
        f"{enumeration}.",
        f"There is {enumeration}.",
        f"a {first.name} {side} a {last.name}.",
        f"a {first.name} at the {CELLS[first.cell]} and a {last.name} at the {CELLS[last.cell]}.",
        f"a picture of {enumeration}.",
    ]


STATEMENTS = ("left", "right", "both", "any", "none")


def statement(kind: str, left: Scene, right: Scene, rng: Random) -> tuple[str, bool]:
    """Draw a statement about two images like those of NLVR2, of one of the ``STATEMENTS``; return it and its truth."""
    words, has = _object_or_shape(rng.choice(rng.choice((left, right)).things), rng, [left, right])
    return {
        "left": (f"the left image contains {words}.", has[0]),
        "right": (f"the right image contains {words}.", has[1]),
        "both": (f"both images contain {words}.", all(has)),
        "any": (f"one of the images contains {words}.", any(has)),
        "none": (f"no image contains {words}.", not any(has)),
    }[kind]


def balanced_statement(rng: Random) -> tuple[str, bool, Scene, Scene]:
    """Draw a statement and its two scenes so that the wording tells nothing about the truth.

    Kind and truth are drawn independently, then scenes until a statement of this kind has this truth.

    Returns:
        The statement, its truth, and the left and the right scene.
    """
    kind, target = rng.choice(STATEMENTS), rng.random() < 0.5
    while True:
        left, right = draw_scene(rng), draw_scene(rng)
        text, truth = statement(kind, left, right, rng)
        if truth == target:
            return text, truth, left, right


# --- clips -----------------------------------------------------------------------------------------------------------


def clip_phrases(clip: Clip, frames: int) -> list[str]:
    """Return a phrase for every frame of a clip, padded with ``nothing`` to ``frames`` as the loader pads features."""
    phrases = []
    for frame in range(frames):
        if frame >= clip.frames:
            phrases.append("nothing")
            continue
        event = clip.event_at(frame)
        phrases.append(f"{('early', 'late')[event]} {' '.join(clip.words(event))}")
    return phrases


def subtitles(clip: Clip, rng: Random) -> list[str]:
    """Return two spoken lines in random order: one names the room (TV) or the dish (kitchen), one is small talk."""
    small_talk = rng.choice(("well now.", "look here.", "all right.", "hello there."))
    place = f"we are in the {clip.place_word}." if clip.kind == "tv" else f"take the {clip.place_word}."
    return rng.sample((small_talk, place), 2)


def choice_question(clip: Clip, rng: Random, choices: int) -> tuple[str, list[str], int, int]:
    """Draw a multiple-choice question about one event of a clip.

    Only the right choice occurs in the clip. The choices are in the order of the world's vocabulary.

    Returns:
        The question, the choices, the index of the right one, and the index of the event.
    """
    event = rng.randrange(len(clip.events))
    part = rng.randrange(2)
    question = {"tv": ("who is here?", "what happens?")}.get(clip.kind, ("which food is used?", "what is done?"))[part]
    pool = {"tv": (ACTORS, ACTIONS)}.get(clip.kind, (FOODS, VERBS))[part]
    in_clip = [clip.words(e)[part] for e in range(len(clip.events))]
    wrong = rng.sample([word for word in pool if word not in in_clip], choices - 1)
    options = sorted([in_clip[event], *wrong], key=pool.index)
    return question, options, options.index(in_clip[event]), event


def clip_captions(clip: Clip, event: int) -> list[str]:
    """Return two reference captions of one event of a clip."""
    who, what = clip.words(event)
    if clip.kind == "tv":
        return [f"The {who} {what} in the {clip.place_word}.", f"In the {clip.place_word} the {who} {what}."]
    return [f"{what} the {who} in the {clip.place_word}", f"{what} the {who} and use the {clip.place_word}"]
