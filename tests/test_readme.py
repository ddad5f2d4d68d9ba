"""The README and the pages in docs tell the truth: their commands, flags, files and links exist, its example runs."""

import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from bench.cli import INTERNAL_VERBS, VERBS, Parser, add_verb, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "docs/*.md", "results/README.md", "slurm/README.md")
    for path in ROOT.glob(pattern)
)
pages = pytest.mark.parametrize("page", PAGES)
#: files of examples, which a reader adds
EXAMPLES = {"bench/backbones/mt5.py", "bench/report/plots/speed.py", "methods/late_adapter.py", "methods/ssf.py"} | {
    f"methods/swiglu/{name}.py" for name in ("__init__", "block")
}

RUN = """
import methods
from bench import backbones
model = backbones.build("mini-bart", feat_dim=96)
handle = methods.attach(model, methods.get("ssf", at=["enc.ff.out"]))
d = model.lm.config.d_model
assert handle.count().new == model.lm.config.encoder_layers * 2 * d, handle.count()
"""


def test_the_example_method_works_as_printed(repo: Path, tmp_path: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (example,) = [block for block in blocks if "@method(" in block]
    script = tmp_path / "example.py"
    script.write_text(example + RUN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=repo, env={"PYTHONPATH": str(repo)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@cache
def parser(verb: str) -> Parser:
    module = import_module(f"bench.cli.{(VERBS | INTERNAL_VERBS)[verb][0]}")
    made = Parser(prog=verb, allow_abbrev=False)
    add_verb(made, verb, module)
    return made


def commands(text: str) -> list[list[str]]:
    """The words after ``python -m bench`` of every command, in blocks (where lines go on behind a backslash) and in
    backticks."""
    blocks = re.findall(r"^```bash\n(.*?)^```|((?:^    .*\n)+)", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(first + second for first, second in blocks).replace("\\\n", " ").splitlines()
    typed = [line.partition("python -m bench ")[2] for line in lines if line.strip().startswith("python -m bench ")]
    typed += re.findall(r"`python -m bench ([^`]+)`", text)
    return [shlex.split(line, comments=True) for line in typed]


TYPED = [(page, words) for page in PAGES for words in commands((ROOT / page).read_text())]
#: files that the pages have the reader write: their names, the pages, and a line of the block that is in them
WRITTEN = {
    "my_ssf.py": ("README.md", "@method("),
    "ranks.toml": ("docs/sweeps.md", 'name = "ranks"'),
    "my_norms.toml": ("docs/sweeps.md", "Which layer norms"),
}


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who has written the files of the pages, and has no results yet."""
    (tmp_path / "results" / "runs").mkdir(parents=True)
    for name, (page, line) in WRITTEN.items():
        blocks = re.findall(r"^```\w+\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
        (block,) = [block for block in blocks if line in block]
        (tmp_path / name).write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "words"), TYPED, ids=str)
def test_every_command_can_be_typed(page: str, words: list[str], reader: Path) -> None:
    """The verb exists and takes these flags; a verb alone stands for itself."""
    assert words[0] in VERBS | INTERNAL_VERBS or words == ["--help"]
    words = [word.replace("my_ssf.py", "lora") for word in words]  # to parse a file of methods registers them for good
    if len(words) > 1:
        parser(words[0]).parse_all(words[1:])


def is_cheap(words: list[str]) -> bool:
    """Whether a command trains nothing, and names neither data, weights nor runs that are not here."""
    others = [word for word in words if re.search(r"^/|=/|[A-Z]{3}|profile|\.\.\.$", word)]
    looks = words[0] in ("list", "completion", "clean") or {"--dry-run", "--list"} & set(words)
    return bool(looks) and not others


#: but for those of the guide whose examples are to be added first
CHEAP = sorted({tuple(words) for page, words in TYPED if page != "docs/adding.md" and is_cheap(words)})


@pytest.mark.parametrize("words", CHEAP, ids=" ".join)
def test_commands_that_train_nothing_work(words: tuple[str, ...], reader: Path) -> None:
    program = f"from bench.cli import main; raise SystemExit(main({list(words)!r}))"
    if any(word.endswith(".py") or ".py," in word for word in words):  # what it registers stays out of other tests
        done = subprocess.run([sys.executable, "-c", program], cwd=reader, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        assert main(list(words)) == 0


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pages
def test_every_flag_named_in_backticks_exists(page: str) -> None:
    verbs = VERBS | INTERNAL_VERBS
    flags = {flag for verb in verbs for action in parser(verb)._actions for flag in action.option_strings}
    quoted = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", (ROOT / page).read_text(encoding="utf-8"))
    named = {flag for words in quoted for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", words)}
    others = {
        "--kill",
        "--dir",
        "--summarize",
        "--nv",
        "--bind",
        "--nproc-per-node",
    }  # of slurm/dev-cluster, sinfo, ...
    others |= {"--benchmark-only", "--benchmark-save", "--benchmark-compare"}  # of pytest-benchmark
    assert named - flags - others == set()


@pages
def test_every_link_and_every_file_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    places = r"(?<![\w/.])(?:bench|methods|tests|docs|slurm|benchmarks|results/paper)/[\w./+-]*\w/?"
    named = {name for name in re.findall(places, text) if not re.search("[A-Z]{4}", name)}  # slurm/NAME is no folder
    assert {name for name in named if not (ROOT / name).exists()} <= EXAMPLES
