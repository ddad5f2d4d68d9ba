"""The README's example method is real: it works as it is printed there."""

import re
import subprocess
import sys
from pathlib import Path

RUN = """
import methods
from bench import backbones
model = backbones.build("mini-bart", feat_dim=32)
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


def test_every_command_of_the_readme_exists(repo: Path) -> None:
    from bench.cli import VERBS

    text = (repo / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"python -m bench ([a-z][a-z-]*)", text))
    assert used <= set(VERBS)
