"""Losses in blocks, recomputed in the backward: memory beside the logits does not grow with the positions."""
