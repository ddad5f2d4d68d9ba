"""From a data root to batches: feature stores, prepared examples, the official order, the check of a root."""
