"""TVC: captions of moments of TV clips with subtitles."""

from bench.tasks.video import caption_task

#: two descriptions of each of 86,603 clips; what is published about the other splits contradicts itself
SIZES = {"train": 2 * 86_603}

TASK = caption_task("tvc", "TVC", order=6, source="tv", spans=True, official_sizes=SIZES)
