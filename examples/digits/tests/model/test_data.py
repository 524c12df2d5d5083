"""The test images are no part of the training images."""

from ci_tools.gates.leakage import data_leakage
from ci_tools.gates.splits import Rows, Splits


def rows(run, split):
    arrays = run.split(split)
    return Rows(numeric_NF=arrays["numeric"], label_N=arrays["label"])


def test_data_leakage(run, policy):
    policy.require(data_leakage(Splits(train=rows(run, "train"), test=rows(run, "test"))))
