"""TVC: captions of moments of TV clips with subtitles."""

from bench.tasks.video import caption_task

TASK = caption_task("tvc", "TVC", order=6, source="tv", spans=True)
