"""Every reader on records that the datasets' authors published, laid out as the official data root."""

import json
from pathlib import Path

import published_root
import pytest
from published_root import lines

from bench import tasks

GRID = "clip_features/data_clip_RN101_att"


@pytest.fixture(scope="module")
def published(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of published records."""
    root = tmp_path_factory.mktemp("published")
    published_root.write(shared / "real", root)
    return root


SUBS = "[Subs] Chase : That's all\u2028this is? Yes."
COUNTS = {
    ("vqa", "train"): 1,
    ("vqa", "validation"): 2000,
    ("vqa", "test"): 962,
    ("gqa", "train"): 4,
    ("gqa", "validation"): 1063,
    ("nlvr", "train"): 50,
    ("nlvr", "validation"): 200,
    ("nlvr", "test"): 150,
    ("caption", "validation"): 2,
    ("caption", "test"): 194,
    ("tvqa", "train"): 20,
    ("tvqa", "validation"): 200,
    ("tvqa", "test"): 300,
    ("how2qa", "train"): 10,
    ("how2qa", "validation"): 500,
    ("how2qa", "test"): 30,
    ("tvc", "train"): 8,
    ("tvc", "validation"): 200,
    ("tvc", "test"): 300,
    ("yc2c", "train"): 6,
    ("yc2c", "validation"): 100,
    ("yc2c", "test"): 10,
}


@pytest.mark.parametrize(("name", "split"), COUNTS)
def test_number_of_examples_and_plain_references(name: str, split: str, published: Path) -> None:
    examples = tasks.get(name).read(published, split)
    assert len(examples) == COUNTS[name, split]
    assert json.loads(json.dumps([e.reference for e in examples])) == [e.reference for e in examples]
    if split != "train":
        assert len({e.id for e in examples}) == len(examples)
    assert all(len(e.visual) == (2 if name == "nlvr" else 1) for e in examples)


def test_vqa(published: Path) -> None:
    (first,) = tasks.get("vqa").read(published, "train")
    assert first.id == "458752000"
    assert first.text == "What is this photo taken looking through?"
    assert first.visual == (f"COCO/{GRID}/COCO_train2014_000000458752.h5",)
    assert first.answers == (("net", 1.0),)
    assert first.reference is None
    example = tasks.get("vqa").read(published, "validation")[0]
    assert len(example.reference["answers"]) == 10
    assert example.reference["answer_type"] == "yes/no"
    assert example.reference["question_type"] == "is there a"
    assert example.reference["topk"] is None
    assert tasks.get("vqa").read(published, "test")[0].reference["topk"] is True


def test_gqa_trains_on_two_files_with_images_of_visual_genome(published: Path) -> None:
    examples = tasks.get("gqa").read(published, "train")
    assert [e.id for e in examples] == ["07333408", "201030415", "201030507", "201030639"]
    assert examples[0].visual == (f"VG/{GRID}/2375429.h5",)
    assert examples[1].visual == (f"VG/{GRID}/n54424.h5",)
    first = tasks.get("gqa").read(published, "validation")[0]
    assert first.visual == (f"GQA/{GRID}/n54424.h5",)
    assert first.text == "What kind of furniture is brown?"
    assert first.answers == (("couch", 1.0),)


def test_gqa_accuracy_is_exact(published: Path) -> None:
    task = tasks.get("gqa")
    examples = task.read(published, "validation")[:4]  # couch, long sleeved, couch, right
    assert task.score(examples, ["couch", "long sleeved", "couch", "right"]).metrics == {"accuracy": 100.0}
    assert task.score(examples, ["Couch", "long sleeved ", "", "right"]).metrics == {"accuracy": 25.0}


def test_nlvr(published: Path) -> None:
    first, second = tasks.get("nlvr").read(published, "validation")[:2]
    assert first.visual == (f"nlvr/{GRID}/dev-850-0-img0.h5", f"nlvr/{GRID}/dev-850-0-img1.h5")
    assert (first.id, first.answers) == ("nlvr2_valid_0", (("false", 1.0),))
    assert (second.id, second.answers) == ("nlvr2_valid_1", (("true", 1.0),))


def test_nlvr_scores_are_the_official_ones(published: Path, shared: Path) -> None:
    """Predictions and figures of the authors' metric script."""
    said = dict(
        line.split(",") for line in (shared / "real/nlvr2/dev.head200.predictions.csv").read_text().splitlines()
    )
    examples = tasks.get("nlvr").read(published, "validation")
    official = {r["identifier"]: r["label"] for r in lines(shared / "real/nlvr2/dev.head200.json")}
    assert all(official[e.reference["identifier"]] == ("False", "True")[e.reference["label"]] for e in examples)
    scores = tasks.get("nlvr").score(examples, [said[e.reference["identifier"]].lower() for e in examples]).metrics
    assert scores["accuracy"] == 50.0
    assert scores["consistency"] == pytest.approx(3.44827586, abs=1e-8)


def test_captions_one_per_sentence_to_train_one_per_image_to_evaluate(published: Path) -> None:
    task = tasks.get("caption")
    images = json.loads((published / "COCO/dataset_coco.json").read_text())["images"]
    train = task.read(published, "train")  # two of train, two of restval
    raw = [s["raw"].strip() for i in (0, 1, 3, 4) for s in images[i]["sentences"]]
    assert [e.answers for e in train] == [((text, 1.0),) for text in raw]
    assert len({e.id for e in train}) == len(train)
    assert {e.text for e in train} == {""}
    assert train[0].visual == (f"COCO/{GRID}/COCO_val2014_000000391895.h5",)
    first = task.read(published, "validation")[0]
    assert first.id == images[5]["filename"].removesuffix(".jpg")
    assert first.reference == [s["raw"].strip() for s in images[5]["sentences"]]


def test_tvqa_source_text(published: Path, shared: Path) -> None:
    task = tasks.get("tvqa")
    first = task.read(published, "test")[0]
    question = (
        "[Q] Who does Sheldon say he'll send an email to after coming out of the bathroom? [TS] (48.62-60.02) "
        "[Choices] a0: The yogurt manufacturer. a1: The people who make toilet seats. a2: Stan Lee. a3: Leonard's mom. "
        "a4: The person who didn't make the apartment walls soundproof."
    )
    assert first.text == f"{SUBS} {question}"
    assert task.source(first, True) == f"{SUBS} {question} tvqa: "
    assert task.source(first, False) == f"{SUBS} {question} "
    assert first.visual == ("video/vis_features/tv/clip-vit/s03e21_seg02_clip_08.npz",)
    assert (first.id, first.answers, first.reference["answer"]) == ("137292", (), None)


def test_a_video_without_subtitles(published: Path) -> None:
    """The empty transcript leaves the space that joins it."""
    example = tasks.get("how2qa").read(published, "validation")[1]
    assert example.text.startswith("[Subs]  [Q] What is the boy talking about? [TS] (37.21-60.02) [Choices] a0: Never")
    captions = tasks.get("yc2c")
    assert captions.source(captions.read(published, "validation")[1], True) == "[Subs]  yc2c: "


def test_tvqa_public_questions_of_both_test_files_are_read_once(published: Path) -> None:
    examples = tasks.get("tvqa").read(published, "test")
    merged = ["[Q] Merged: " in e.text for e in examples]
    assert len(examples) == 300
    assert merged == [False] * 100 + [True] * 200  # the later file wins


def test_a_repeated_training_question_is_kept(published: Path) -> None:
    examples = tasks.get("how2qa").read(published, "train")
    assert examples[0] == examples[9]


def test_answers_of_the_quizzes(published: Path) -> None:
    plus = tasks.get("tvqa").read(published, "validation")[0]  # TVQA+: the index is a string, ts a list
    assert plus.answers == (("a3", 1.0),)
    assert "[TS] ([0.0, 5.4])" in plus.text
    how2 = tasks.get("how2qa")
    examples = how2.read(published, "validation")
    assert examples[0].answers == (("a2", 1.0),)
    assert "a0: Www.lyndalepl.com. a1: Www.plants.com." in examples[0].text
    assert " a4: " not in examples[0].text
    assert examples[0].visual == ("video/vis_features/how2/clip-vit/25848.npz",)
    assert how2.score(examples[:4], ["a2", "a2 ", "A3", ""]).metrics == {"accuracy": 25.0}


def test_video_captions(published: Path) -> None:
    tvc, yc2c = tasks.get("tvc"), tasks.get("yc2c")
    first = tvc.read(published, "validation")[0]
    assert tvc.source(first, True) == f"{SUBS} [TS] ([16.48, 33.87]) tvc: "
    assert first.answers == (("Phoebe puts one of her ponytails in her mouth.", 1.0),)
    assert first.reference["caption"] == "Phoebe puts one of her ponytails in her mouth."
    assert "[TS] ([0, 2.29])" in tvc.read(published, "validation")[1].text
    clip = tvc.read(published, "test")[0]
    assert clip.answers == ()
    assert clip.reference == {"vid_name": "friends_s10e10_seg02_clip_19", "clip_id": 102866, "ts": [80.64, 85.28]}
    one, two, *_ = yc2c.read(published, "train")
    assert (one.text, one.visual) == (two.text, two.visual)  # one example per description, as it is written
    assert two.answers == (("Stir.  ", 1.0),)
    assert one.reference["clip"] == two.reference["clip"]
    assert yc2c.source(one, True) == f"{SUBS} yc2c: "


def test_video_caption_scores(published: Path, shared: Path) -> None:
    """The official scores of the published predictions of YC2C."""
    task = tasks.get("yc2c")
    said = {p["clip_id"]: p["descs"][0]["desc"] for p in lines(shared / "real/yc2c/yc2c_val_predictions.head100.jsonl")}
    clips = [r["clip_id"] for r in lines(shared / "real/yc2c/yc2c_val_release.head100.jsonl")]
    scores = task.score(task.read(published, "validation"), [said[c] for c in clips]).metrics
    assert scores["CIDEr"] == pytest.approx(128.7606400037736)
    assert scores["BLEU-4"] == pytest.approx(12.057736433722942)
    assert not [name for name in scores if name.endswith("_multi")]  # one description per clip: nothing to add
