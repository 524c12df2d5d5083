"""A pipeline's files as the gates read them: what is missing, damaged or does not fit is named."""

import numpy as np
import pytest

from ci_tools.errors import DataError
from ci_tools.gates.run import open_run

WHOLE = {"numeric": np.zeros((3, 2)), "categorical": np.zeros((3, 0)), "label": np.array([0, 1, 0])}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "data").mkdir()
    return open_run([1], tmp_path)


def save(run, **arrays):
    np.savez(run.root / "data/train.npz", **arrays)


def test_split_holds_what_was_saved(run):
    save(run, **WHOLE)
    found = run.split("train")
    assert found.keys() == WHOLE.keys()
    assert found["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": None}, "has no array 'label'"),
        ({"numeric": None}, "has no array 'numeric'"),
        ({"label": np.zeros(2)}, r"numeric has shape \(3, 2\), label \(2,\)"),
        ({"time": np.float64(1)}, r"time has shape \(\)"),
    ],
)
def test_split_that_does_not_fit_is_named(run, change, what):
    save(run, **{name: column for name, column in (WHOLE | change).items() if column is not None})
    with pytest.raises(DataError, match=what) as error:
        run.split("train")
    assert str(run.root / "data/train.npz") in str(error.value)


def test_missing_and_damaged_splits_are_named(run):
    with pytest.raises(DataError, match="no such file"):
        run.split("train")
    (run.root / "data/train.npz").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="is damaged"):
        run.split("train")
