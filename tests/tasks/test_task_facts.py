"""What the official code fixes about each task: prompts, limits, batch sizes, decoding, losses, averages."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import suites, tasks
from bench.errors import UsageError
from bench.metrics.caption import caption_scores
from bench.tasks.nlvr import consistency_group

PROMPTS = {
    "vqa": ("vqa: what?", "what?"),
    "gqa": ("gpa: what?", "what?"),  # misspelt in the official code
    "nlvr": ("nlvr: what?", "what?"),
    "caption": ("caption: what?", "what?"),
    "tvqa": ("what? tvqa: ", "what? "),
    "how2qa": ("what? how2qa: ", "what? "),
    "tvc": ("what? tvc: ", "what? "),
    "yc2c": ("what? yc2c: ", "what? "),
}
# source limit, target limit, loss, beams (None: the recipe's), decoding
RULES = {
    "vqa": (20, 10, "weighted", 1, "generate"),
    "gqa": (20, None, "example", 1, "generate"),
    "nlvr": (None, None, "example", None, "binary"),
    "caption": (40, 40, "tokens", None, "generate"),
    **dict.fromkeys(("tvqa", "how2qa", "tvc", "yc2c"), (600, 20, "example", None, "generate")),
}


def test_suites_in_the_official_order() -> None:
    assert suites.names() == list(suites.built_in()) == ["image-text", "video-text"]
    assert suites.get("image-text").official_tasks == ("vqa", "gqa", "nlvr", "caption")
    assert suites.get("video-text").official_tasks == ("tvqa", "how2qa", "tvc", "yc2c")
    for name in suites.names():
        assert tuple(task.name for task in suites.get(name).tasks) == suites.get(name).official_tasks
    assert tasks.names() == suites.official_tasks() == [*tasks.names("image-text"), *tasks.names("video-text")]


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_and_their_place(name: str) -> None:
    task, example = tasks.get(name), tasks.Example("1", "what?", ("x.h5",))
    assert (task.source(example, True), task.source(example, False)) == PROMPTS[name]


def test_a_caption_is_asked_for_by_the_prompt_alone() -> None:
    task, example = tasks.get("caption"), tasks.Example("1", "", ("x.h5",))
    assert (task.source(example, True), task.source(example, False)) == ("caption: ", "")


@pytest.mark.parametrize("name", RULES)
def test_limits_loss_and_decoding(name: str) -> None:
    task = tasks.get(name)
    found = (task.source_limit, task.target_limit, task.loss, task.decode.beams, task.decode.mode)
    assert found == RULES[name]
    assert task.decode.max_length == 20


@pytest.mark.parametrize(("recipe", "sizes"), [(500, [500, 833, 166, 416]), (300, [300, 500, 100, 250])])
def test_batch_sizes(recipe: int, sizes: list[int]) -> None:
    assert [t.batch_size(recipe) for t in suites.get("image-text").tasks] == sizes
    assert [t.batch_size(50) for t in suites.get("video-text").tasks] == [50] * 4


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_batch_sizes_are_the_official_fractions(size: int) -> None:
    """``int(size * percent / 60)``, but never an empty batch."""
    for task, percent in zip(suites.get("image-text").tasks, (60, 100, 20, 50), strict=True):
        assert task.batch_size(size) == max(1, int(size * percent / 60))


def test_what_tables_report() -> None:
    shown = {t.name: (t.metric, t.report_split) for s in suites.names() for t in suites.get(s).tasks}
    assert shown == {
        "vqa": ("accuracy", "test"),
        "gqa": ("accuracy", "validation"),
        "nlvr": ("accuracy", "test"),
        "caption": ("CIDEr", "test"),
        "tvqa": ("accuracy", "validation"),
        "how2qa": ("accuracy", "validation"),
        "tvc": ("CIDEr", "validation"),
        "yc2c": ("CIDEr", "validation"),
    }


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(UsageError, match="unknown task 'tvqaa'; did you mean 'tvqa'"):
        tasks.get("tvqaa")
    with pytest.raises(UsageError, match="unknown suite 'image_text'; did you mean 'image-text'"):
        suites.get("image_text")


def test_consistency_groups() -> None:
    assert consistency_group("dev-850-0-2") == consistency_group("dev-850-3-2") == "dev-850--2"
    assert consistency_group("dev-850-0-2") != consistency_group("dev-850-0-1")
    assert consistency_group("dev-850-0-2") != consistency_group("dev-851-0-2")


def test_consistency_needs_every_pair_of_a_statement() -> None:
    examples = [
        tasks.Example(i, "", ("a", "b"), (), {"label": label, "identifier": i})
        for i, label in (("dev-1-0-0", 1), ("dev-1-1-0", 0), ("dev-1-0-1", 1), ("dev-2-0-0", 0))
    ]
    scores = tasks.get("nlvr").score(examples, ["true", "true", "true", "false"])
    assert scores.examples == [100.0, 0.0, 100.0, 100.0]
    assert scores.metrics == {"accuracy": 75.0, "consistency": pytest.approx(200 / 3)}


def test_quiz_accuracy_per_show() -> None:
    examples = [
        tasks.Example(str(i), "", ("a",), (), {"answer": f"a{i}", "show": show})
        for i, show in enumerate(("House", "House", "Castle", None))
    ]
    scores = tasks.get("tvqa").score(examples, ["a0", "a2", "a2", "a3."])
    assert scores.examples == [100.0, 0.0, 100.0, 0.0]
    assert scores.metrics == {"accuracy": 50.0, "accuracy_House": 50.0, "accuracy_Castle": 100.0}


def test_video_captions_are_scored_against_one_reference_and_against_all_of_a_clip() -> None:
    told = [("1", "a man opens the door"), ("1", "someone walks in"), ("2", "two women laugh"), ("3", "she eats")]
    examples = [
        tasks.Example(str(i), "", ("a",), (), {"clip": clip, "caption": text}) for i, (clip, text) in enumerate(told)
    ]
    said = ["a man opens the door", "a man opens the door", "two women laugh", "she eats"]
    scores = tasks.get("tvc").score(examples, said).metrics
    single, _ = caption_scores([[text] for _, text in told], said)
    several, _ = caption_scores([["a man opens the door", "someone walks in"], [told[2][1]], [told[3][1]]], said[1:])
    assert scores == {**single, **{f"{name}_multi": value for name, value in several.items()}}
    assert scores["BLEU-4_multi"] > scores["BLEU-4"]


@pytest.mark.parametrize("name", tasks.names("video-text"))
def test_test_splits_without_public_answers_cannot_be_scored(name: str, tiny_root: Path) -> None:
    task = tasks.get(name)
    examples = task.read(tiny_root, "test")
    with pytest.raises(UsageError, match=r"no public (answer|caption)s to score against"):
        task.score(examples, ["a0"] * len(examples))


@pytest.mark.parametrize("name", PROMPTS)
def test_every_split_of_a_generated_root_can_be_read_and_scored(name: str, tiny_root: Path) -> None:
    """Right answers get the best scores that the metric can give."""
    task = tasks.get(name)
    assert all(task.read(tiny_root, split) for split in task.splits)
    examples = task.read(tiny_root, task.report_split)
    best = [max(e.answers, key=lambda a: a[1])[0] for e in examples]
    scores = task.score(examples, best).metrics
    assert task.metric in scores
    assert scores[task.metric] > (90 if task.metric == "accuracy" else 100)
    assert scores[task.metric] > task.score(examples, ["nonsense"] * len(examples)).metrics[task.metric]


def test_gqa_by_question_type_where_the_published_questions_are_there(tiny_root: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_root / "GQA", tmp_path / "GQA", ignore=shutil.ignore_patterns("*.h5"))
    task = tasks.get("gqa")
    plain = task.read(tmp_path, "validation")
    types = {e.id: {"semantic": "rel", "structural": "query", "detailed": "relS"} for e in plain[:4]}
    types[plain[1].id]["semantic"] = "attr"
    questions = {number: {"question": "?", "types": kinds} for number, kinds in types.items()}
    (tmp_path / "GQA/testdev_balanced_questions.json").write_text(json.dumps(questions))
    examples = task.read(tmp_path, "validation")
    right = [max(e.answers, key=lambda answer: answer[1])[0] for e in examples]
    said = [*right[:2], "nonsense", *right[3:]]
    scores = task.score(examples, said)
    assert scores.examples == task.score(plain, said).examples
    assert scores.metrics == {
        **task.score(plain, said).metrics,
        "accuracy_semantic_rel": pytest.approx(200 / 3),
        "accuracy_semantic_attr": 100.0,
        "accuracy_structural_query": 75.0,
        "accuracy_detailed_relS": 75.0,
    }
    (tmp_path / "GQA/testdev_balanced_questions.json").write_text(json.dumps({"1": {"types": {"semantic": 5}}}))
    with pytest.raises(UsageError, match=r"testdev_balanced_questions\.json: question '1', types: key 'semantic' is 5"):
        task.read(tmp_path, "validation")


def test_an_answer_that_is_called_types_is_an_answer() -> None:
    assert tasks.get("gqa").score([tasks.Example("1", "", (), (), {"types": 1.0})], ["types"]).examples == [100.0]
