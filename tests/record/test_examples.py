"""Margins and losses per example, and shadow steps: each against a plain computation."""

import numpy as np
import pytest
import torch

from ci_tools.errors import ConfigError, RecordError
from ci_tools.record import Recorder, SeededBatches, SeededLoader, open_record, shadow
from ci_tools.record.margins import visits
from tests.record import toy


def record_margins(path, give, steps=7):
    """A run whose margin of example i at step s is i + s, as far as `give(step)` says so; 4 batches of 2 per epoch."""
    with Recorder(path, params={}, seed=1) as run:
        model = torch.nn.Linear(1, 1)
        run.watch(model, torch.optim.SGD(model.parameters(), 0.1))
        rows = toy.Rows(torch.arange(9.0)[:, None], torch.zeros(9, 1))
        for step, batch in run.steps(SeededLoader(rows, SeededBatches(9, 2, 1)), steps):
            loss = model(batch.x).square().mean()
            loss.backward()
            run.record(loss)
            if give(step):
                run.margins(batch.x[:, 0] + step)
        run.finish({})
    return open_record(path)


def test_margins_are_means_over_the_visits_of_each_example(tmp_path):
    table = record_margins(tmp_path / "run", lambda step: True).margins
    sampler, seen = SeededBatches(9, 2, 1), {i: [] for i in range(9)}
    for step in range(7):
        for i in sampler.ids(step // 4, step % 4):
            seen[int(i)].append(i + step)
    assert table["count"].to_pylist() == [len(seen[i]) for i in range(9)]
    expected = [np.mean(seen[i]) if seen[i] else 0.0 for i in range(9)]
    np.testing.assert_allclose(table["margin"].to_numpy(), expected, rtol=1e-6)


def test_visits_count_what_the_sampler_yields():
    sampler = SeededBatches(50, 8, 3)
    for steps in (0, 1, 6, 13):
        ids = [i for step in range(steps) for i in sampler.ids(step // 6, step % 6)]
        assert visits(sampler, steps).tolist() == np.bincount(np.array(ids, dtype=int), minlength=50).tolist()


@pytest.mark.parametrize("give", [lambda step: step != 3, lambda step: step > 2])
def test_margins_of_some_steps_only_are_refused(tmp_path, give):
    with pytest.raises(RecordError, match=r"run\.margins was not called"):
        record_margins(tmp_path / "run", give)


def test_margins_of_another_shape_are_refused(tmp_path):
    with pytest.raises(RecordError, match=r"shape \(32, 1\); the batch has 32"):
        toy.train(tmp_path / "run", on_step=lambda step, run: run.margins(torch.zeros(32, 1)))


def test_run_without_margins_has_none(tmp_path):
    assert record_margins(tmp_path / "run", lambda step: False).margins.num_rows == 0


def test_losses_of_at_most_4096_examples_are_kept_spread_over_the_split(tmp_path):
    def evaluate(step, run):
        if step == 10:
            run.evaluated("big", {}, losses=np.arange(10_000.0))
            run.evaluated("small", {}, losses=[1.0, float("nan"), 3.0])

    rows = open_record(toy.train(tmp_path / "run", on_step=evaluate)).losses.to_pylist()
    big, small = (next(row for row in rows if row["split"] == name) for name in ("big", "small"))
    assert (len(big["loss"]), big["loss"][0], big["loss"][-1]) == (4096, 0.0, 9999.0)
    assert np.ptp(np.diff(big["loss"])) <= 1
    np.testing.assert_array_equal(small["loss"], [1.0, np.nan, 3.0])


def test_shadow_of_a_linear_model_is_its_rounding_error():
    torch.manual_seed(0)
    x, y = torch.randn(64, 5), torch.randn(64, 1)
    model = torch.nn.Linear(5, 1)
    before = torch.get_rng_state()
    found = shadow.measure(model, toy.squared_error, toy.Rows(x, y), "float32")
    assert torch.equal(before, torch.get_rng_state())
    assert model.weight.grad is None
    w, b = model.weight.detach().double(), model.bias.detach().double()
    exact = 2 * ((x.double() @ w.T + b - y.double()) * x.double()).mean(0)
    loss = toy.squared_error(model, toy.Rows(x, y))
    loss.backward()
    error = (model.weight.grad.double() - exact).norm() / exact.norm()
    assert found.error[0] == pytest.approx(float(error), rel=1e-6)
    assert 0 < found.error[0] < 1e-6
    assert 0 < found.sensitivity[0] < 1e-6


def test_shadow_sees_cancellation_that_the_sensitivity_does_not_explain():
    def cancelling(model, batch):
        big = 1e4  # variance as E[x²] − E[x]², far from zero: fine in exact arithmetic
        z = model(batch.x) + big
        return z.square().mean() - z.mean().square()

    def careful(model, batch):
        return model(batch.x).var(unbiased=False)

    torch.manual_seed(0)
    model, rows = torch.nn.Linear(5, 1), toy.Rows(torch.randn(64, 5), torch.zeros(64, 1))
    bad, good = (shadow.measure(model, loss, rows, "float32") for loss in (cancelling, careful))
    assert bad.error[0] > 1e3 * good.error[0]
    assert bad.sensitivity[0] == pytest.approx(good.sensitivity[0], rel=0.05)


def test_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be one of float32, bf16, fp16, got 'half'"):
        Recorder(tmp_path, params={}, seed=1, precision="half")
