import math

import numpy as np
import pytest
import torch

from ci_tools.record.monitor import RING_ROWS, GradientMonitor


def model_with_gradients(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2)).to(dtype)
    model(torch.randn(9, 5, dtype=dtype)).square().sum().backward()
    return list(model.parameters())


def one_row(parameters, loss=1.5, max_norm=0.0):
    monitor = GradientMonitor(parameters)
    monitor.observe(torch.tensor(loss), max_norm)
    monitor.commit()
    return monitor.collect(wait=True)[0]


def test_row_agrees_with_numpy():
    parameters = model_with_gradients()
    row = one_row(parameters)
    expected_norms = [math.sqrt(float((p.grad.double().numpy() ** 2).sum())) for p in parameters]
    expected_largest = [float(np.abs(p.grad.numpy()).max()) for p in parameters]
    assert row[0] == 1.5
    assert row[1] == 1.0
    np.testing.assert_allclose(row[2:6], expected_norms, rtol=1e-6)
    np.testing.assert_array_equal(row[6:], np.float32(expected_largest))


def test_clipping_agrees_with_torch():
    ours, theirs = model_with_gradients(), model_with_gradients()
    row = one_row(ours, max_norm=0.5)
    total = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=0)
    assert row[1] == pytest.approx(0.5 / float(total), rel=1e-5)
    assert np.linalg.norm(row[2:6]) == pytest.approx(float(total), rel=1e-6), "the statistics are those before clipping"


def test_observing_leaves_the_gradients_alone():
    parameters = model_with_gradients()
    before = [p.grad.clone() for p in parameters]
    one_row(parameters)
    assert all(torch.equal(p.grad, b) for p, b in zip(parameters, before, strict=True))


def test_nan_and_infinity_reach_the_row():
    parameters = model_with_gradients()
    parameters[1].grad[0] = float("nan")
    parameters[2].grad[0, 0] = float("inf")
    row = one_row(parameters)
    assert math.isnan(row[6 + 1])
    assert math.isinf(row[6 + 2])
    assert math.isfinite(row[6])


def test_layer_without_gradient_counts_as_zero():
    parameters = model_with_gradients()
    parameters[0].grad = None
    row = one_row(parameters, max_norm=0.1)
    assert row[2] == 0
    assert row[6] == 0
    assert row[3] > 0


def test_sparse_gradient_is_measured():
    table = torch.nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([2, 2, 5])).square().sum().backward()
    expected = float(table.weight.grad.to_dense().norm())
    assert one_row([table.weight])[2] == pytest.approx(expected, rel=1e-6)


def test_half_precision_gradients_are_measured_in_float32():
    parameters = model_with_gradients(dtype=torch.bfloat16)
    row = one_row(parameters)
    assert row.dtype == np.float32
    assert row[2] == pytest.approx(float(parameters[0].grad.float().norm()), rel=1e-3)


def test_every_row_arrives_once_and_in_order():
    parameters = model_with_gradients()
    monitor = GradientMonitor(parameters)
    losses, arrived = list(range(3 * RING_ROWS + 5)), []
    for loss in losses:
        monitor.observe(torch.tensor(float(loss)))
        if monitor.commit():
            arrived += monitor.collect(wait=False)[:, 0].tolist()
    arrived += monitor.collect(wait=True)[:, 0].tolist()
    assert arrived == losses
    assert len(monitor.collect(wait=True)) == 0


def test_dropped_rows_do_not_arrive():
    monitor = GradientMonitor(model_with_gradients())
    monitor.observe(torch.tensor(1.0))
    monitor.commit()
    monitor.drop()
    assert len(monitor.collect(wait=True)) == 0
