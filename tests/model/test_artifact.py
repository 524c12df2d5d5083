"""What is released scores as the trained network does, is no heavier than the base revision's, and holds no pickle."""

import pytest

from ci_tools.gates.artifact import latency, model_size, no_pickle, onnx_parity


@pytest.mark.parametrize("gate", [onnx_parity, no_pickle])
def test_artifact(gate, run, policy):
    policy.require(gate(run))


@pytest.mark.parametrize("gate", [model_size, latency])
def test_cost_against_main(gate, run, baseline, policy):
    policy.require(gate(run, baseline))
