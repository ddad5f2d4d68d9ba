"""TVQA: five-way questions about TV clips with subtitles."""

from bench.tasks.video import choice_task

TASK = choice_task(
    "tvqa",
    "TVQA",
    order=4,
    source="tv",
    files={
        "train": ("tvqa_train",),
        "validation": ("tvqa_val",),
        "test": ("tvqa_test_public", "tvqa_test_release"),
    },
    choices=5,
    official_sizes={"train": 122_039, "validation": 15_253, "test": 15_253},
)
