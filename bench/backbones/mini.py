"""The miniature backbones that ship with the package: checkpoints, pretrained on text by ``python -m bench mini
pretrain``."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "mini" / "backbones"
CHECKPOINTS = {"mini-bart": SHIPPED / "mini-bart", "mini-t5": SHIPPED / "mini-t5"}
