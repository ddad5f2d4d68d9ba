"""Where the miniature backbones are that ship with the package; ``python -m bench mini pretrain`` makes them."""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "mini" / "backbones"
#: name -> folder in ``save_pretrained`` layout
CHECKPOINTS = {name: _FOLDER / name for name in ("mini-bart", "mini-t5")}
