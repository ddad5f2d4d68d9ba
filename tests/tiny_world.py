"""The sizes of a miniature root that tests write in a second."""

TINY = {
    "coco": {"train": 12, "val": 4, "test": 6},
    "gqa": {"train": 6, "valid": 3, "testdev": 6},
    "nlvr": {"train": 16, "valid": 4, "test": 8},
    "tv": {"train": 12, "val": 6, "test": 3},
    "how2": {"train": 12, "val": 6, "test": 3},
    "yc2": {"train": 12, "val": 6, "test": 3},
}
