import math

import numpy as np
import pytest
import torch

from ci_tools.record.probes import Probe
from ci_tools.record.schema import HISTOGRAM_BINS


def parameters(*gradients):
    made = []
    for gradient in gradients:
        tensor = torch.tensor(gradient, dtype=torch.float32)
        parameter = torch.nn.Parameter(torch.ones_like(tensor))
        parameter.grad = tensor
        made.append(parameter)
    return made


def probe_row(ps, previous=None, first=None, share=0.5, batch_size=64):
    probe = Probe(ps, previous)
    if first is not None:
        probe.first_half(first, share)
    probe.gradients([p.grad for p in ps], batch_size)
    return probe.updates()


def brute_force_bin(value):
    if not math.isfinite(value):
        return HISTOGRAM_BINS - 1
    if value == 0:
        return 0
    return min(max(math.floor(math.log2(abs(value))) + 28, 0), HISTOGRAM_BINS - 1)


def test_histogram_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    layers = [
        (rng.standard_normal(200) * 2.0 ** rng.integers(-40, 8, 200)).astype(np.float32).tolist(),
        [0.0, -0.0, 1.0, -2.0, 0.5, 2.0**-28, 2.0**-27, float("nan"), float("inf"), 1e30, 1e-40],
    ]
    row = probe_row(parameters(*layers))
    for values, counts in zip(layers, row["histogram"], strict=True):
        expected = np.zeros(HISTOGRAM_BINS, dtype=int)
        for value in np.float32(values):
            expected[brute_force_bin(float(value))] += 1
        assert counts == expected.tolist()


def test_dead_share_counts_rows_without_any_gradient():
    row = probe_row(parameters([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [2.0, 2.0]], [0.0, 1.0, 2.0, 0.0]))
    assert row["dead_share"] == [0.5, 0.5]


def test_cosine_to_the_previous_gradient():
    ps = parameters([1.0, 0.0], [3.0, 4.0])
    row = probe_row(ps, previous=torch.tensor([0.0, 2.0, 6.0, 8.0]))
    assert row["cosine_previous"] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert all(math.isnan(c) for c in probe_row(ps)["cosine_previous"])


def test_update_ratio_is_rms_of_the_change_over_rms_of_the_weights():
    ps = parameters([1.0, 1.0, 1.0])
    probe = Probe(ps, None)
    probe.gradients([p.grad for p in ps], 8)
    with torch.no_grad():
        ps[0] += torch.tensor([0.1, 0.0, -0.2])
    expected = math.sqrt((0.01 + 0.04) / 3)
    assert probe.updates()["update_ratio"] == pytest.approx([expected], rel=1e-5)


def test_noise_scale_agrees_with_its_definition():
    # Least squares with known per-sample gradients: B_simple = tr(cov of per-sample gradients) / |mean gradient|².
    rng = np.random.default_rng(1)
    mean, spread, dim, batch = 0.3, 2.0, 400, 512
    estimates = []
    for _ in range(60):
        samples = mean + spread * rng.standard_normal((batch, dim))
        whole, first = samples.mean(axis=0), samples[: batch // 2].sum(axis=0) / batch
        ps = parameters(whole.tolist())
        row = probe_row(ps, first=[torch.tensor(first, dtype=torch.float32)], batch_size=batch)
        estimates.append((row["gradient_square"], row["gradient_variance"]))
    square, variance = np.mean(estimates, axis=0)
    assert square == pytest.approx(mean**2 * dim, rel=0.02)
    assert variance == pytest.approx(spread**2 * dim, rel=0.03)


def test_half_cosine_of_equal_and_opposite_halves():
    ps = parameters([1.0, 2.0])
    assert probe_row(ps, first=[torch.tensor([0.5, 1.0])])["half_cosine"] == pytest.approx([1.0])
    ps = parameters([0.0, 0.0])
    assert probe_row(ps, first=[torch.tensor([0.5, 1.0])])["half_cosine"] == pytest.approx([-1.0])


def test_without_halves_the_noise_scale_is_absent():
    row = probe_row(parameters([1.0]))
    assert math.isnan(row["noise_scale"])
    assert math.isnan(row["half_cosine"][0])
