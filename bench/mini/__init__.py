"""The miniature suite: a synthetic world written in the official formats, and tiny backbones pretrained on text."""
