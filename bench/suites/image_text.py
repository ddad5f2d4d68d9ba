"""Image-text: VQA v2, GQA, NLVR2 and COCO captioning, as VL-Adapter (Sung et al., 2022) trains them jointly."""

from bench.suites.miniature_world import MINIATURE
from bench.suites.suite import Features, Suite

SUITE = Suite(
    name="image-text",
    label="Image-text",
    official_tasks=("vqa", "gqa", "nlvr", "caption"),
    annotations=("COCO/*.json", "vqa/*.json", "GQA/*.json", "nlvr/*.json"),
    features=Features(kind="grid", columns=2048),  # CLIP RN101
    recipes={
        # The official results are those of the last epoch.
        "paper": {"": {"validate": "epoch", "select": "last"}},
    },
    miniature=MINIATURE,
)
