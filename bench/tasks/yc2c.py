"""YC2C: captions of cooking steps (YouCook2) with subtitles."""

from bench.tasks.video import caption_task

TASK = caption_task("yc2c", "YC2C", order=7, source="yc2", spans=False)
