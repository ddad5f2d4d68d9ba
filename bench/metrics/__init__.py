"""The official metrics: VQA accuracy, and captioning scores by pycocoevalcap."""
