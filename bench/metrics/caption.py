"""Caption scores by pycocoevalcap, with its PTB tokeniser: CIDEr, BLEU and ROUGE-L; METEOR and SPICE on request."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO

from bench.errors import UsageError
from bench.metrics.java_tools import MeteorProgram, PtbTokenizer, spice

#: what records call this way of scoring
EDITION = "coco-caption (pycocoevalcap 1.2)"
#: metrics that start a Java program of their own, by name; each is a function of tokenised references and predictions
SLOW_METRICS: dict[str, Callable[[Sequence[Sequence[str]], Sequence[str]], float]] = {
    "METEOR": MeteorProgram(),
    "SPICE": spice,
}

_tokenizer = PtbTokenizer()


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Lower-case and tokenise sentences with the Stanford PTB tokeniser as pycocoevalcap does, without punctuation.

    All calls of a process go through one process of Java.

    Raises:
        UsageError: Java or the tokeniser did not run; the message has the last line that they printed.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    if not sentences:
        return []
    # The tokeniser works by line, so a line break inside a sentence would shift all that follow.
    tokenized = _tokenizer([" ".join(sentence.split()) for sentence in sentences])
    return [" ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATIONS) for line in tokenized]


def tokenize_captions(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tuple[list[list[str]], list[str]]:
    """Tokenise the references of every example and its prediction, all in one call of :func:`ptb_tokenize`."""
    if not all(references):
        raise UsageError("an example has no reference caption to compare with; run `python -m bench data check`")
    tokenized = iter(ptb_tokenize([*predictions, *(text for several in references for text in several)]))
    first = [next(tokenized) for _ in predictions]
    return [[next(tokenized) for _ in several] for several in references], first


def score_tokenized(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tuple[dict[str, float], list[float]]:
    """Score captions that are tokenised already.

    Document frequencies of CIDEr come from these references alone, one document per prediction, so that the corpus
    CIDEr is the mean of the examples' CIDEr.

    Returns:
        The corpus scores ``CIDEr``, ``BLEU-1`` to ``BLEU-4`` and ``ROUGE-L``, and the CIDEr of every example, all
        times 100.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates = {i: [text] for i, text in enumerate(predictions)}
    truth = {i: list(several) for i, several in enumerate(references)}
    with redirect_stdout(StringIO()):  # the scorers print
        cider, cider_of_examples = Cider().compute_score(truth, candidates)
        bleu, _ = Bleu(4).compute_score(truth, candidates)
        rouge, _ = Rouge().compute_score(truth, candidates)
    metrics = {"CIDEr": 100 * float(cider)}
    metrics |= {f"BLEU-{order}": 100 * float(value) for order, value in enumerate(bleu, start=1)}
    metrics["ROUGE-L"] = 100 * float(rouge)
    return metrics, [100 * float(value) for value in cider_of_examples]


def caption_scores(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tuple[dict[str, float], list[float]]:
    """Tokenise and score captions; returns what :func:`score_tokenized` does."""
    return score_tokenized(*tokenize_captions(references, predictions))
