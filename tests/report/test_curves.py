"""Curves over seeds that did not all train to the end, from real records."""

import shutil

import numpy as np
import pytest

from ci_tools.record import open_record
from ci_tools.report import charts, curves
from ci_tools.report.results import Early
from ci_tools.report.sections import curves as told
from tests.report import cases
from tests.report.track import written

STEPS = 60


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Records of seeds whose losses are 1 from the first step to the last, but for those that `no_number` names."""

    def run(steps_of, no_number=None):
        for seed, steps in steps_of.items():
            bad = (no_number or {}).get(seed, ())

            def row(step, attempt, layers, bad=bad, seed=seed):
                return original(step, attempt, layers) | {"loss": np.nan if step in bad else float(seed)}

            with monkeypatch.context() as patched:
                patched.setattr(written, "trace_row", row)
                folder = tmp_path / f"seed-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                written.finished(folder, steps=steps, metrics=("accuracy",))
        return curves.of([(seed, open_record(tmp_path / f"seed-{seed}")) for seed in steps_of], ["accuracy"])

    original = written.trace_row
    return run


def test_whole_seeds_have_a_mean_everywhere_and_none_ends_early(train):
    loss, metric = train({1: STEPS, 3: STEPS})
    assert (set(loss.mean), set(loss.low), set(loss.high)) == ({2.0}, {1.0}, {3.0})
    assert loss.early == metric.early == ()


def test_point_where_one_seed_of_two_is_no_number_has_no_mean(train):
    loss, _ = train({1: STEPS, 3: STEPS}, {3: range(30, 40)})
    lost = [step for step, mean in zip(loss.step, loss.mean, strict=True) if mean is None]
    assert lost[0] > 30 - 2
    assert lost[-1] <= 40
    assert [low for low, mean in zip(loss.low, loss.mean, strict=True) if mean is None] == [None] * len(lost)
    assert charts.change(loss) == "2 → 2, in between not finite"


def test_seed_that_stopped_is_told_and_no_longer_averaged(train):
    loss, metric = train({1: STEPS, 3: 40})
    assert loss.early == (Early(seed=3, step=39),)
    assert metric.early == (Early(seed=3, step=40),)
    assert [mean for step, mean in zip(loss.step, loss.mean, strict=True) if step > 40] == [1.0] * sum(
        step > 40 for step in loss.step
    )
    comment = told(cases.results([], curves=(loss, metric)))[0]
    assert "(seed 3 until step 39)" in comment.splitlines()[0]
    assert "**Training loss** (2 of 5 seeds, seed 3 until step 39)" in comment


def test_seed_that_stopped_without_a_number_takes_the_mean_with_it(train):
    loss, _ = train({1: STEPS, 3: 40}, {3: range(30, 40)})
    assert {mean for step, mean in zip(loss.step, loss.mean, strict=True) if step > 31} == {None}
    assert charts.change(loss) == "2 → 2, then not finite"


def test_many_seeds_that_stopped_are_told_in_one_line():
    early = tuple(Early(seed=seed, step=1000 * seed) for seed in range(100))
    loss = cases.curves()[0].model_copy(update={"early": early})
    assert charts.early(loss).startswith("seed 0 until step 0, seed 1 until step 1,000, ")
    assert charts.early(loss).endswith(", …")
    assert len(charts.early(loss)) < 200
