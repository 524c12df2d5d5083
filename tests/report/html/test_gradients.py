import base64

import numpy as np
import pytest

from ci_tools.record import open_record
from ci_tools.report.html import gradients, records, thin
from tests.report.html import cases


@pytest.fixture(scope="module")
def found(finished):
    return gradients.read(records.read(finished))


def cells(text, *shape):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def test_heat_map_is_the_trace_on_a_logarithmic_scale(found, finished):
    data = found.data["map"]
    trace = open_record(finished.root / "runs/seed-2").trace
    rms = np.array(trace.column("grad_rms").to_pylist())
    code = cells(data["seeds"][1], cases.LAYERS, data["count"]).astype(float)
    assert (data["width"], data["count"]) == (1, cases.STEPS)
    decades = data["low"] + (code - thin.LOWEST) / (thin.HIGHEST - thin.LOWEST) * (data["high"] - data["low"])
    step = (data["high"] - data["low"]) / (thin.HIGHEST - thin.LOWEST)
    assert np.abs(np.maximum(np.log10(rms.T), data["low"]) - decades).max() <= 0.51 * step


def test_histograms_are_shares_of_the_weights(found, finished):
    data = found.data["histograms"]
    probes = open_record(finished.root / "runs/seed-1").probes
    code = cells(data["seeds"][0], cases.LAYERS, data["bins"], data["count"]).astype(float)
    share = (np.maximum(code - thin.ZERO, 0) / (thin.HIGHEST - thin.ZERO)) ** 2
    assert share.sum(axis=1) == pytest.approx(np.ones((cases.LAYERS, data["count"])), abs=0.08)
    counts = np.array(probes.column("histogram").to_pylist())[:, 0]
    merged = len(counts) // data["count"]
    first = counts[:merged].sum(axis=0) / counts[:merged].sum()
    assert share[0, :, 0] == pytest.approx(first, abs=0.01)
    assert ((share[0, :, 0] > 0) == (first > 0)).all()


def test_update_ratios_are_those_of_the_probes(found, finished):
    data = found.data["ratios"]
    probes = open_record(finished.root / "runs/seed-3").probes
    assert data["x"] == probes.column("step").to_pylist()
    expected = np.array(probes.column("update_ratio").to_pylist()).T
    assert np.array(data["seeds"][2]) == pytest.approx(expected, rel=1e-3)


def test_table_names_the_largest_gradient_and_its_step(found, finished):
    rms = np.array(open_record(finished.root / "runs/seed-1").trace.column("grad_rms").to_pylist())
    for i, row in enumerate(found.table):
        assert (row.at_step, row.largest) == (rms[:, i].argmax(), pytest.approx(rms[:, i].max()))


def test_seed_of_another_network_is_left_out(tmp_path):
    cases.pipeline(tmp_path, seeds=(1,), steps=40)
    other = cases.pipeline(tmp_path / "other", seeds=(2,), steps=40, layers=4)
    (other.root / "runs/seed-2").rename(tmp_path / "runs/seed-2")
    shown = gradients.read(records.read(cases.open_run((1, 2), tmp_path)))
    assert list(shown.data["map"]["seeds"]) == [0]
