"""How2QA: four-way questions about instructional clips with subtitles."""

from bench.tasks.video import choice_task

TASK = choice_task(
    "how2qa",
    "How2QA",
    order=5,
    source="how2",
    files={
        "train": ("how2qa_train_release",),
        "validation": ("how2qa_val_release",),
        "test": ("how2qa_test_public_release",),
    },
    choices=4,
    official_sizes={"train": 34_187, "validation": 3_115, "test": 3_095},
)
