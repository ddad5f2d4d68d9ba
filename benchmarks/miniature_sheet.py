"""The sheet of pictures in docs/miniature.md: ``python -m benchmarks.miniature_sheet``."""

from pathlib import Path
from random import Random

from PIL import Image

from bench.mini.pictures import clip_pictures, scene_picture
from bench.mini.world import PIXELS, draw_clip, draw_scene

OUT = Path(__file__).parents[1] / "docs" / "images" / "miniature.jpg"
COLUMNS, GAP = 8, 4


def main() -> None:
    """Draw two lines of scenes, and two of clips from whose frames every second one is shown."""
    rng = Random(7)
    rows = [[scene_picture(draw_scene(rng), rng) for _ in range(COLUMNS)] for _ in range(2)]
    for kind in ("tv", "yc2"):
        frames = [frame for _ in range(COLUMNS) for frame in clip_pictures(draw_clip(rng, kind), rng)[::2]]
        rows.append(frames[:COLUMNS])
    step = PIXELS + GAP
    sheet = Image.new("RGB", (COLUMNS * step - GAP, len(rows) * step - GAP), "white")
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * step, line * step))
    OUT.parent.mkdir(exist_ok=True)
    sheet.save(OUT, quality=88)
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
