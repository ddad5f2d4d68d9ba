"""Video-text: TVQA, How2QA, TVC and YC2C, four tasks of the VALUE benchmark (Li et al., 2021), trained jointly."""

from bench.suites.miniature_world import MINIATURE
from bench.suites.suite import Features, Suite

SUITE = Suite(
    name="video-text",
    label="Video-text",
    official_tasks=("tvqa", "how2qa", "tvc", "yc2c"),
    annotations=("video/ann/**/*.jsonl",),
    features=Features(kind="frames", columns=512),  # CLIP ViT
    recipes={
        "paper": {
            # All 64 frames reach the model, so nothing is pooled. The official results are those of the epoch with the
            # best mean validation score.
            "": {"n_boxes": 64, "validate": "epoch", "select": "best"},
            "bart": {"batch_size": 50},
            "t5": {"batch_size": 30},
        },
        # Questions with choices are long, so that an update costs twice as much as on image-text.
        "mini": {"": {"steps": 500}},
    },
    miniature=MINIATURE,
)
