"""VQA accuracy as the public evaluation tool computes it, bugs included, in the edition of 2016, which made the
published numbers (quirk VQA-EVAL-OLD), and in that of 2021."""

import re
from collections.abc import Sequence
from typing import Literal

from bench.errors import UsageError

HUMANS = 10  # answers of every question of VQA v2
PUNCTUATION = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The tool means "a period not between digits" but its look-behind is mistyped: any period that no digit follows goes
# (quirk VQA-PERIOD), and at most 32 of them, since it passes a flag where re.sub expects a count.
PERIOD = re.compile(r"\.(?!\d)")
PERIODS_AT_MOST = 32
ARTICLES = {"a", "an", "the"}
DIGITS = dict(
    zip(
        ("none", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"),
        strict=True,
    )
)
#: words that the tool writes with their apostrophe, by how they are written without it
_DROPPED_APOSTROPHES = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm
I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
shouldn't someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll
they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've somebody'll
somebody's
"""
#: the tool's other entries, ``word:replacement``; a few are odd and kept as they are
_OTHER_CONTRACTIONS = """
couldnt've:couldn't've couldn'tve:couldn't've hadnt've:hadn't've hadn'tve:hadn't've hed've:he'd've
he'dve:he'd've Id've:I'd've I'dve:I'd've itd've:it'd've it'dve:it'd've let's:let's mightnt've:mightn't've
mightn'tve:mightn't've ow's'at:'ow's'at 'ows'at:'ow's'at 'ow'sat:'ow's'at shed've:she'd've she'dve:she'd've
she's:she's shouldnt've:shouldn't've shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've
somebody'dve:somebody'd've someoned've:someone'd've someone'dve:someone'd've somethingd've:something'd've
something'dve:something'd've thered've:there'd've there'dve:there'd've theyd've:they'd've they'dve:they'd've
wed've:we'd've we'dve:we'd've whod've:who'd've who'dve:who'd've wouldnt've:wouldn't've wouldn'tve:wouldn't've
yall'll:y'all'll y'allll:y'all'll yall'd've:y'all'd've y'alld've:y'all'd've y'all'dve:y'all'd've
youd've:you'd've you'dve:you'd've
"""
CONTRACTIONS = {word.replace("'", ""): word for word in _DROPPED_APOSTROPHES.split()} | dict(
    pair.split(":") for pair in _OTHER_CONTRACTIONS.split()
)


def without_punctuation(text: str) -> str:
    """Remove punctuation.

    A mark that touches a space anywhere in the text is deleted everywhere in it, and so are all marks of a text with a
    comma between digits. Every other mark becomes a space.
    """
    result = text
    for mark in PUNCTUATION:
        loose = f"{mark} " in text or f" {mark}" in text or COMMA_IN_NUMBER.search(text) is not None
        result = result.replace(mark, "" if loose else " ")
    return PERIOD.sub("", result, count=PERIODS_AT_MOST)


def with_plain_words(text: str) -> str:
    """Lower-case a text, turn number words into digits, drop articles and put apostrophes back."""
    words = (DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def accuracy(prediction: str, answers: Sequence[str], edition: Literal["2016", "2021"] = "2016") -> float:
    """Return the accuracy of a prediction in [0, 1]: min(1, matches / 3) against the other answers, averaged over
    leaving out each.

    The tool is made for ten answers. Where there are fewer than four, three of the others cannot agree: all of them
    are enough then, and a single answer is compared as it is. With four or more this is the tool's formula.

    In 2016 the prediction is always normalised, and disagreeing answers lose their punctuation only. In 2021 both are
    normalised in full where the answers disagree, and neither where they agree.

    >>> accuracy("net", ["net"] * 9 + ["netting"])
    1.0
    >>> accuracy("2", ["two"] * 9 + ["three"]), accuracy("2", ["two"] * 9 + ["three"], edition="2021")
    (0.0, 1.0)
    >>> accuracy("red", ["red"]), accuracy("red", ["red"] * 3), accuracy("red", ["red", "red", "blue"])
    (1.0, 1.0, 0.6666666666666666)
    """
    if not answers:
        raise UsageError("a question has no human answers to compare with; run `python -m bench data check`")
    answer, human = _one_line(prediction), list(answers)
    if edition == "2021":
        human = [_one_line(text) for text in human]
    disagree = len(set(human)) > 1
    if edition == "2016" or disagree:
        answer = with_plain_words(without_punctuation(answer))
    if disagree:
        human = [without_punctuation(text) for text in human]
        if edition == "2021":
            human = [with_plain_words(text) for text in human]
    matches = sum(answer == text for text in human)
    if len(human) == 1:
        return float(matches)
    enough = min(3, len(human) - 1)
    points = [min(1.0, (matches - (answer == text)) / enough) for text in human]
    return sum(points) / len(points)
