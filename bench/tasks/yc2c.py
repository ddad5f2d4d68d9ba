"""YC2C: captions of cooking steps (YouCook2) with subtitles."""

from bench.tasks.video import caption_task

#: those of the retrieval task on the same videos, YC2R: the page of the download lists another data set's for YC2C
SIZES = {"train": 10_337, "validation": 3_492, "test": 1_604}

TASK = caption_task("yc2c", "YC2C", order=7, source="yc2", spans=False, official_sizes=SIZES)
