"""Tokenisers: the official ids of the extra tokens, special tokens, limits, spaces, and clean-up after decoding."""

from typing import Any

import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from bench import backbones
from bench.backbones.builder import family_of
from bench.backbones.tokenization import Tokenizer
from bench.errors import UsageError
from bench.mini.tokenizers import TRAINERS

SENTENCES = [
    "vqa: what color is the cube ?",
    "caption: ",
    "[Subs] Chase : yes. [Q] is it red [TS] (1.0-2.5) [Choices] a0: yes. a1: no. tvqa: ",
    "true",
    "false",
]


def family(name: str) -> Any:
    return family_of(type("Config", (), {"model_type": name}))


def made(name: str) -> Tokenizer:
    return Tokenizer.wrap(TRAINERS[f"mini-{name}"](SENTENCES), family(name))


def of_words(words: list[str], specials: dict[str, str], ends: str) -> PreTrainedTokenizerFast:
    """A tokeniser of whole words, in the size of a published one."""
    tokenizer = HFTokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=ends, special_tokens=[(w, words.index(w)) for w in ("<s>", "</s>") if w in ends]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


@pytest.fixture(scope="module")
def published_bart() -> Tokenizer:
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(4, 50264)), "<mask>"]
    specials = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return Tokenizer.wrap(of_words(words, specials, "<s> $A </s>"), family("bart"))


@pytest.fixture(scope="module")
def published_t5() -> Tokenizer:
    words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(3, 32000))]
    hf = of_words(words, {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "$A </s>")
    hf.add_tokens([f"<extra_id_{i}>" for i in reversed(range(100))], special_tokens=True)
    return Tokenizer.wrap(hf, family("t5"))


def ids(text: Tokenizer, *tokens: str) -> list[int]:
    return text.hf_tokenizer.convert_tokens_to_ids(list(tokens))


def test_bart_ids_are_the_official_ones(published_bart: Tokenizer) -> None:
    token_ids = ids(published_bart, "<extra_id_99>", "<extra_id_0>", "<vis_extra_id_99>", "<vis_extra_id_0>")
    assert token_ids == [50265, 50364, 50365, 50464]
    assert ids(published_bart, "<vis_extra_id_7>") == [50457]
    assert (published_bart.vocab_size, published_bart.pad_id, published_bart.hf_tokenizer.eos_token_id) == (50465, 1, 2)


def test_t5_ids_are_the_official_ones(published_t5: Tokenizer) -> None:
    token_ids = ids(published_t5, "<extra_id_99>", "<extra_id_0>", "<vis_extra_id_99>", "<vis_extra_id_0>")
    assert token_ids == [32000, 32099, 32100, 32199]
    assert (published_t5.vocab_size, published_t5.pad_id, published_t5.hf_tokenizer.eos_token_id) == (32200, 0, 1)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_the_last_rows_are_those_of_the_visual_tokens(name: str) -> None:
    text = made(name)
    assert ids(text, *(f"<vis_extra_id_{k}>" for k in range(100))) == [text.vocab_size - 1 - k for k in range(100)]
    assert Tokenizer.wrap(text.hf_tokenizer, family(name)).vocab_size == text.vocab_size  # nothing is added twice


def test_another_layout_is_an_error() -> None:
    hf = TRAINERS["mini-bart"](SENTENCES)
    hf.add_tokens(["<vis_extra_id_0>"], special_tokens=True)
    with pytest.raises(UsageError, match="other tokeniser layout"):
        Tokenizer.wrap(hf, family("bart"))


def test_the_empty_caption_input() -> None:
    assert made("bart").encode("", 40) == [0, 2]
    assert made("t5").encode("", 40) == [1]


def test_bart_keeps_a_trailing_space_as_a_token_and_t5_drops_it() -> None:
    bart, t5 = made("bart"), made("t5")
    with_space, without = bart.encode("caption: ", None), bart.encode("caption:", None)
    assert with_space == [*without[:-1], bart.encode_bare(" ")[0], 2]
    assert bart.encode("is  it", None) != bart.encode("is it", None)
    assert t5.encode(" caption:  ", None) == t5.encode("caption:", None)
    assert t5.encode("is \n it", None) == t5.encode("is it", None)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_limit_cuts_on_the_right_and_keeps_the_ends(name: str) -> None:
    text = made(name)
    complete = text.encode(SENTENCES[2], None)
    assert len(complete) > 12
    assert text.encode(SENTENCES[2], 12) == [*complete[:11], text.hf_tokenizer.eos_token_id]
    assert text.encode(SENTENCES[2], 600) == complete
    assert text.encode(SENTENCES[2], None) == complete  # a limit does not stick
    assert (complete[0] == 0) == (name == "bart")


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_the_first_id_of_a_word_is_what_training_on_it_teaches_first(name: str) -> None:
    text = made(name)
    target = text.encode("true", None)
    assert text.first_token_id("true") == target[1 if name == "bart" else 0]
    assert text.first_token_id("true") != text.first_token_id("false")


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_decoding_skips_special_tokens_the_added_ones_too(name: str) -> None:
    text = made(name)
    words = text.encode("is it red", None)
    extra = ids(text, "<extra_id_3>", "<vis_extra_id_99>", "<vis_extra_id_0>")
    assert text.decode([*words, *extra, text.pad_id, text.pad_id]) == "is it red"
    assert text.decode([text.hf_tokenizer.eos_token_id, *words]) == "is it red"


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("is it red ?", "is it red?"),
        ("yes , it is .", "yes, it is."),
        ("no !", "no!"),
        ("it do n't", "it don't"),
        ("I 'm , he 's , we 've , they 're", "I'm, he's, we've, they're"),
        ("the dog ' s", "the dog's"),
        ("Yes , No", "Yes, No"),  # nothing is lower-cased
        ("a0", "a0"),
    ],
)
def test_clean_up(sentence: str, wanted: str) -> None:
    text = made("bart")
    assert text.decode(text.encode(sentence, None)) == wanted


def test_decoding_does_not_strip() -> None:
    text = made("bart")
    assert text.decode(text.encode(" red ", None)) == " red "


@pytest.mark.parametrize("name", ["mini-bart", "mini-t5"])
def test_shipped_tokenisers_have_the_layout(name: str) -> None:
    text = backbones.tokenizer(name)
    assert ids(text, "<vis_extra_id_0>") == [text.vocab_size - 1]
    assert text.decode(text.encode("a red cube", None)) == "a red cube"
