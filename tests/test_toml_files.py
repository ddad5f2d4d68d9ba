"""Every TOML file is read by one reader, which says in one line what is wrong; harmless bytes are read over."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.config import parse_setting, resolve
from bench.errors import UsageError
from bench.sweep.profile import Profile
from bench.sweep.spec import load
from bench.toml_files import read_toml
from methods.core.errors import MethodError


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda path: None, "no such"),
    "folder": (folder, "is a folder"),
    "fifo": (fifo, "not a regular file"),
    "loop": (loop, "cannot be read"),
    "latin-1": (content("question = 'é'".encode("latin-1")), "not UTF-8 (byte 0xe9 in line 1)"),
    "utf-16": (content("lr = 1".encode("utf-16")), "not UTF-8"),
    "unclosed": (content(b"a = [1,\n"), "not valid TOML"),
    "deep": (content(b"a = " + b"[" * 50_000 + b"]" * 50_000), "nested too deep"),
    "digits": (content(b"steps = " + b"9" * 6_000), "cannot be read"),
    "large": (content(b"#" * 10_000_001), "too many"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "recipe": lambda path: resolve("mini-bart", "lora", "image-text", recipe=str(path)),
    "sweep": lambda path: load(str(path)),
    "profile": Profile.read,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_toml_file_is_one_line_that_names_it(kind: str, reader: str, tmp_path: Path) -> None:
    make, hint = WRONG[kind]
    make(tmp_path / "case.toml")
    with pytest.raises(UsageError, match=r"case\.toml") as caught:
        READERS[reader](tmp_path / "case.toml")
    message = str(caught.value)
    assert hint in message and "\n" not in message and len(message) < 600


@pytest.mark.parametrize("name", ["nul\0byte.toml", "x" * 300 + ".toml", "~nobody-is-called-so/x.toml"])
def test_a_path_that_cannot_be_one_is_an_error(name: str) -> None:
    with pytest.raises(UsageError):
        read_toml(Path(name), "recipe")


@pytest.mark.parametrize("change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_and_carriage_returns_are_harmless(
    reader: str, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    texts = {
        "recipe": b"# mine\nsteps = 2\nlr = 0.5\n",
        "sweep": b"# mine\nmethods = ['lora']\n",
        "profile": b"# mine\ntime_minutes = 5\n",
    }
    path = tmp_path / "case.toml"
    path.write_bytes(texts[reader])
    plain = READERS[reader](path)
    path.write_bytes(change(texts[reader]))
    assert READERS[reader](path) == plain


def test_the_home_directory_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text("methods = ['lora']")
    assert load("~/mine.toml").name == "mine"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        *(
            (f'"{table}" = {value}', table)
            for table in ("bart", "image-text", "method")
            for value in ("5", '"x"', "[1]")
        ),
        ('[method]\nlora = "x"', "method.lora"),
        ("[method.lroa]\nlr = 1.0", "'lora'"),
        ("[brat]\nlr = 1.0", "'bart'"),
        ("lr = nan", "lr"),
        ("[bart]\nlr = inf", "lr"),
        ("lr = inf\n[bart]\nlr = 1.0", "lr"),
        ("batch_size = '2'\n[bart]\nbatch_size = 2", r"case\.toml'?: batch_size"),
        ("[t5]\nbeams = 0", r"case\.toml', table 't5': beams"),
        ("['t5 video-text']\nnosuch = 1", "table 't5 video-text': nosuch"),
        ("[method.full]\nbeam = 1", "table 'method.full': beam.*did you mean 'beams'"),
        ("[method.full]\nbatch_size = 1" + "0" * 30, "table 'method.full': batch_size: .* less than or equal to"),
        ("[method.vl-pet-middle]\n[method.vl-pet-middleX]", "there twice"),
    ],
)
def test_a_table_of_a_recipe_that_is_none_is_named(text: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(f"steps = 2\n{text}\n")
    with pytest.raises((UsageError, MethodError), match=hint):
        resolve("mini-bart", "lora", "image-text", recipe=str(path))


def test_tables_of_a_recipe_are_stronger_the_more_they_say(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    texts = {
        1: "beams = 1\nlr = 1.0\n",
        2: "[bart]\nbeams = 2\n",
        3: "[image-text]\nbeams = 3\n",
        4: '["bart image-text"]\nbeams = 4\n',
        5: "[method.vl-pet-middleX]\nbeams = 5\n",  # by an alias
    }
    for beams in texts:
        tables = [texts[number] for number in texts if 1 < number <= beams]
        path.write_text(texts[1] + "".join(reversed(tables)) + "[t5]\nbeams = 9\n[method.lora]\nbeams = 9\n")
        assert resolve("mini-bart", "vl-pet-middle", "image-text", recipe=str(path)).recipe.beams == beams


def test_a_recipe_with_a_base_changes_the_fields_that_it_gives(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text('base = "paper"\nbeams = 2\n[t5]\nbatch_size = 7\n')
    for family, size in (("bart", 50), ("t5", 7)):
        ours, paper = (resolve(f"{family}-base", "lora", "video-text", recipe=r).recipe for r in (str(path), "paper"))
        changes = {"name": str(path), "beams": 2, "batch_size": size}
        assert ours == paper.model_copy(update=changes)
    path.write_text('base = "papers"\n')
    with pytest.raises(UsageError, match=r"base of recipe .*papers.*did you mean 'paper'"):
        resolve("bart-base", "lora", "video-text", recipe=str(path))


@pytest.mark.parametrize("text", ["lr", "=3", " =3", "lr=1\nsteps=2", "lr\n=1", "lr=" + "[" * 5000, "lr=" + "9" * 5000])
def test_a_setting_is_one_key_and_one_value(text: str) -> None:
    with pytest.raises(UsageError, match="--set") as caught:
        parse_setting(text)
    assert len(str(caught.value)) < 300
