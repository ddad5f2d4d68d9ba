"""The miniature world says only what is true, and the same seed says it again."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest

from bench.data.roots import generate
from bench.mini import language as say
from bench.mini import write as write_module
from bench.mini.features import Camera
from bench.mini.world import CELLS, COLOURS, MAX_FRAMES, MIN_FRAMES, SHAPES, VERSION, draw_clip, draw_scene
from bench.mini.write import write
from bench.suites.miniature_world import MINIATURE

SEEDS = range(300)


def counted(scene, word: str) -> int:
    return sum(word in t.name.split() for t in scene.things)


@pytest.mark.parametrize("seed", SEEDS)
def test_simple_questions_are_answered_by_the_description(seed: int) -> None:
    """An independent reader that knows the description only must come to the same answer."""
    rng = Random(seed)
    scene = draw_scene(rng)
    question, answer, _ = say.simple_question(scene, rng)
    described = [p.split()[:2] for p in say.phrases(scene) if not p.startswith("empty")]
    words = question.rstrip("?").split()
    if question.startswith("what color"):
        assert [c for c, s in described if s == words[-1]] == [answer]
    elif question.startswith("what shape"):
        assert [s for c, s in described if c == words[-1]] == [answer]
    elif question.startswith("how many"):
        assert str(sum(s == words[2].removesuffix("s") for _, s in described)) == answer
    else:
        named = [w for w in words[3:] if w != "object"]
        assert any(set(named) <= set(names) for names in described) == (answer == "yes")


@pytest.mark.parametrize("seed", SEEDS)
def test_spatial_answers_hold(seed: int) -> None:
    rng = Random(seed)
    scene = draw_scene(rng)
    question, answer, _ = say.spatial_question(scene, rng)
    cells = {t.name: divmod(t.cell, 3) for t in scene.things}
    if question.startswith("where"):
        assert CELLS.index(answer) == next(3 * r + c for n, (r, c) in cells.items() if n in question)
    elif question.startswith("is the"):
        first, second = sorted((n for n in cells if n in question), key=question.index)
        (r1, c1), (r2, c2) = cells[first], cells[second]
        truth = {"left of": c1 < c2, "right of": c1 > c2, "above": r1 < r2, "below": r1 > r2}
        assert truth[next(k for k in truth if k in question)] == (answer == "yes")
    else:
        assert any(answer in n.split() for n in cells)


def test_statements_are_balanced_and_not_given_away_by_their_kind() -> None:
    drawn = [say.balanced_statement(Random(seed)) for seed in range(2000)]
    for start in ("one of", "the left", "the right", "both", "no image"):
        truths = [truth for text, truth, _, _ in drawn if text.startswith(start)]
        assert 0.4 < np.mean(truths) < 0.6, start
    assert 0.45 < np.mean([truth for _, truth, _, _ in drawn]) < 0.55


@pytest.mark.parametrize("seed", range(100))
def test_statements_hold(seed: int) -> None:
    text, truth, *scenes = say.balanced_statement(Random(seed))
    words = text.rstrip(".").split()
    wanted = words[-2] if words[-1] == "object" else words[-1]
    left, right = (any(wanted in thing.name.split() for thing in scene.things) for scene in scenes)
    expected = {"the left": left, "the right": right, "both images": left and right, "one of": left or right}
    assert expected.get(" ".join(words[:2]), not (left or right)) == truth


@pytest.mark.parametrize("seed", range(60))
def test_of_the_choices_only_the_right_one_occurs_in_the_clip(seed: int) -> None:
    rng = Random(seed)
    clip = draw_clip(rng, rng.choice(("tv", "how2")))
    _, choices, right, event = say.choice_question(clip, rng, 5)
    occurring = {word for index in range(len(clip.events)) for word in clip.words(index)}
    assert len(set(choices)) == 5
    assert set(choices) & occurring == {choices[right]}
    assert choices[right] in clip.words(event)
    assert MIN_FRAMES <= clip.frames <= MAX_FRAMES


def test_phrases_cover_every_cell_in_reading_order() -> None:
    phrases = say.phrases(draw_scene(Random(3)))
    assert [p.split(" ", 1)[1] if p.startswith("empty") else p.split(" ", 2)[2] for p in phrases] == list(CELLS)


def test_the_best_linear_map_reads_features_in_part_only() -> None:
    """The claim of the features' docstring, by least squares on one half of the things and a look at the other."""
    camera, rng = Camera(0), Random(0)
    samples, truth = [], []
    for _ in range(900):
        scene = draw_scene(rng)
        features = camera.scene(scene)
        for thing in scene.things:
            samples.append(features[thing.cell])
            truth.append((thing.colour, thing.shape, thing.cell))
    x, y = np.hstack([np.stack(samples), np.ones((len(samples), 1))]), np.array(truth)
    half = len(x) // 2
    right = np.ones(len(x) - half, dtype=bool)
    for column, size in enumerate((len(COLOURS), len(SHAPES), len(CELLS))):
        weights = np.linalg.lstsq(x[:half], np.eye(size)[y[:half, column]], rcond=None)[0]
        right &= (x[half:] @ weights).argmax(1) == y[half:, column]
    assert 0.75 < right.mean() < 0.92


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(root.rglob("*.json*")):
        total.update(file.read_bytes())
    for file in sorted(root.rglob("*.npz"))[:20]:
        total.update(np.load(file)["features"].tobytes())
    return total.hexdigest()


@pytest.mark.slow
def test_the_same_seed_writes_the_same_root_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, seed)
    a, b, c = (digest(tmp_path / n) for n in "abc")
    assert a == b != c


def test_ensure_leaves_no_draft_behind_and_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "SIZES", {k: dict.fromkeys(v, 2) for k, v in write_module.SIZES.items()})
    root = generate(MINIATURE, tmp_path / "mini")
    before = sorted(p.stat().st_mtime_ns for p in root.rglob("*"))
    generate(MINIATURE, root)
    assert sorted(p.stat().st_mtime_ns for p in root.rglob("*")) == before
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]


def test_a_changed_generator_writes_to_another_folder(tmp_path: Path) -> None:
    """Data that an earlier generator left in the cache are not taken for those of this one."""
    copies = [shutil.copy(source, tmp_path) for source in MINIATURE.sources]
    copied = dataclasses.replace(MINIATURE, sources=tuple(map(Path, copies)))
    editions = [MINIATURE.edition, copied.edition]
    for path in copied.sources:
        with path.open("a") as file:
            file.write("# changed\n")
        editions.append(copied.edition)
    assert editions[0] == editions[1]
    assert len(set(editions)) == 1 + len(copied.sources) == 5
    assert all(edition.startswith(f"v{VERSION}-") for edition in editions)


#: by version: a digest of the annotations of the tiny root, mean and deviation of the features of its first image
WORLDS = {1: ("38f875151e448860", 0.0370, 0.7764)}


def test_a_version_is_one_world(tiny_root: Path) -> None:
    """Run ids hold the version alone: what changes the files has to raise it."""
    annotations = sorted(p for p in tiny_root.rglob("*.json*") if p.name != "mini.json")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in annotations)).hexdigest()[:16]
    with h5py.File(sorted(tiny_root.rglob("*.h5"))[0]) as file:
        image = np.concatenate([np.asarray(file[key]["features"], dtype=np.float64).ravel() for key in sorted(file)])
    wanted = WORLDS[VERSION]
    assert digest == wanted[0]
    assert (image.mean(), image.std()) == pytest.approx(wanted[1:], abs=1e-3)
