"""The spoiled copy of a model."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from ci_tools.errors import DataError
from ci_tools.release.bundle.packing import pack
from ci_tools.release.rehearsal.spoiled import inverted
from tests.release.bundle import toy


@pytest.fixture
def packed(pipeline, key):
    return pack(key=key, created=toy.CREATED)


def scores(content, rows):
    return onnxruntime.InferenceSession(content).run(["score"], {"rows": rows})[0]


def test_every_score_is_turned_round(packed):
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    np.testing.assert_allclose(scores(inverted(packed), rows), 1 - scores(packed.content, rows), atol=1e-6)


def test_same_model_is_spoiled_to_the_same_bytes(packed):
    assert inverted(packed) == inverted(packed)


def test_model_that_decides_nothing_is_refused(packed):
    undecided = packed.manifest.model_copy(update={"decision": None})
    with pytest.raises(DataError, match="which output decides"):
        inverted(replace(packed, manifest=undecided))
