"""The spoiled copy of a model."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from ci_tools.errors import DataError
from ci_tools.release.bundle.packing import pack
from ci_tools.release.rehearsal.spoiled import INVERTED, NAN, spoiled
from tests.release.bundle import toy


@pytest.fixture
def packed(pipeline, key):
    return pack(key=key, created=toy.CREATED)


def scores(content, rows):
    return onnxruntime.InferenceSession(content).run(["score"], {"rows": rows})[0]


def test_every_score_is_turned_round(packed):
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    content, how = spoiled(packed)
    np.testing.assert_allclose(scores(content, rows), 1 - scores(packed.content, rows), atol=1e-6)
    assert how == INVERTED


def test_same_model_is_spoiled_to_the_same_bytes(packed):
    assert spoiled(packed) == spoiled(packed)


def test_model_that_decides_nothing_answers_nan(packed):
    undecided = packed.manifest.model_copy(update={"decision": None})
    content, how = spoiled(replace(packed, manifest=undecided))
    assert np.isnan(scores(content, np.ones((3, 2), np.float32))).all()
    assert how == NAN


def test_model_without_a_number_is_refused(packed):
    (output,) = packed.manifest.outputs
    words = output.model_copy(update={"datatype": "BYTES"})
    manifest = packed.manifest.model_copy(update={"decision": None, "outputs": (words,)})
    with pytest.raises(DataError, match="no floating-point output"):
        spoiled(replace(packed, manifest=manifest))
