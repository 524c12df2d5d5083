"""Checkpoints are whole, and the same code, params and machine give the same bits."""

from ci_tools.gates.reproducibility import checkpoint_corruption, reproducible


def test_checkpoint_corruption(run, policy):
    policy.require(checkpoint_corruption.over(run.records))


def test_reproducible(run, baseline, policy):
    policy.require(reproducible(run, baseline))
