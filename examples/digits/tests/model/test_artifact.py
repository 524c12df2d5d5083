"""No file of the run holds a pickle. What is exported scores as the trained network does, and is no heavier than the
base revision's.
"""

from pathlib import Path

import pytest

from ci_tools.gates import Reason
from ci_tools.gates.artifact import latency, model_size, no_pickle, onnx_parity

exported = pytest.mark.skipif(
    "export/model.onnx" not in Path("dvc.yaml").read_text(encoding="utf-8"),
    reason=Reason.NOT_EXPORTED.sentence,
)


def test_no_pickle(run, policy):
    policy.require(no_pickle(run))


@exported
def test_onnx_parity(run, policy):
    policy.require(onnx_parity(run))


@exported
@pytest.mark.parametrize("gate", [model_size, latency])
def test_cost_against_main(gate, run, baseline, policy):
    policy.require(gate(run, baseline))
