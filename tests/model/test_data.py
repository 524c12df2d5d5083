"""The data is what the base revision's was, and the test split is no part of the training split."""

import pytest

from ci_tools.gates.data import drift, missing_values, ranges, schema_changed
from ci_tools.gates.leakage import data_leakage
from ci_tools.gates.splits import splits_of


@pytest.mark.parametrize("gate", [schema_changed, missing_values, ranges, drift])
def test_data(gate, run, baseline, policy):
    policy.require(gate(run, baseline))


def test_data_leakage(run, policy):
    policy.require(data_leakage(splits_of(run)))
