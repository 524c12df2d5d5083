"""Exact repetition: seeds, fingerprint, checkpoints, first divergence, replay."""
