"""Label noise on margins made from formulas."""

from dataclasses import replace

import numpy as np
import pytest

from ci_tools.gates import specimen
from ci_tools.gates.labels import label_noise

SEEDS = range(10)
N = 2000


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def classified(seed, share=0.0, *, everywhere=False, hard=0.0):
    """A run whose margins are normal, with a share of wrong labels and a class of hard examples; and its labels."""
    rng = np.random.default_rng(seed)
    run = specimen.clean(seed)
    label = (rng.random(N) < 0.7).astype(np.int64) + (rng.random(N) < hard)
    margin = np.where(label == 2, rng.normal(-0.5, 1.0, N), rng.normal(3, 1, N))
    wrong = rng.random(N) < share
    odds = np.where(
        rng.random(specimen.VALIDATION) < hard,
        rng.normal(-0.5, 1, specimen.VALIDATION),
        rng.normal(3, 1, specimen.VALIDATION),
    )
    if everywhere:
        odds = np.where(rng.random(specimen.VALIDATION) < share, -odds, odds)
    loss = np.tile(np.log1p(np.exp(-odds)), (10, 1))
    # The loss of an example that contradicts its label is about its margin.
    last = np.log1p(np.exp(-np.where(wrong, -margin, margin))).mean()
    last = min(last, 0.95 * specimen.NULL)  # confident mistakes would cost more; training stops short of that
    loss_S = last + (specimen.NULL - last) * np.exp(-np.arange(specimen.STEPS) / 20)
    noisy = loss_S + rng.normal(0, 0.02, specimen.STEPS)
    return replace(run, margin_N=np.where(wrong, -margin, margin), example_loss_EV=loss, loss_S=noisy), label


def regressed(seed, share=0.0):
    """A regression's run: margins are minus the absolute error, losses its square."""
    rng = np.random.default_rng(seed)
    error = np.abs(rng.normal(0, 0.3, N))
    wrong = rng.random(N) < share
    error[wrong] = np.abs(rng.normal(0, 1.4, wrong.sum()))
    loss = np.tile(rng.normal(0, 0.3, specimen.VALIDATION) ** 2, (10, 1))
    loss_S = np.square(error).mean() + np.exp(-np.arange(specimen.STEPS) / 20) + rng.normal(0, 0.01, specimen.STEPS)
    return replace(specimen.clean(seed), null_loss=1.0, margin_N=-error, example_loss_EV=loss, loss_S=loss_S)


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_runs_pass_and_say_what_they_could_have_seen(seed):
    for found in (label_noise(*classified(seed)), label_noise(classified(seed)[0]), label_noise(regressed(seed))):
        assert not failed(found)
        assert "No wrong labels found; less than" in found.reading.diagnosis
        assert 0.01 < found.reading.evidence["smallest share that shows"] < 0.15


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_wrong_labels_are_found_and_their_share_is_about_right(seed, share):
    run, label = classified(seed, share)
    for found in (label_noise(run, label), label_noise(run)):
        assert failed(found)
        assert found.reading.statistic == pytest.approx(share, rel=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_labels_that_validation_shares_need_the_classes(seed):
    run, label = classified(seed, 0.2, everywhere=True)
    assert failed(label_noise(run, label))
    assert not failed(label_noise(run))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hard", [0.02, 0.15])
def test_rare_or_hard_classes_are_not_wrong(seed, hard):
    run, label = classified(seed, hard=hard)
    assert not failed(label_noise(run, label))
    assert not failed(label_noise(run))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_wrong_targets_of_a_regression_are_found(seed, share):
    assert failed(label_noise(regressed(seed, share)))


@pytest.mark.parametrize("seed", SEEDS)
def test_run_that_learned_nothing_does_not_accuse_its_labels(seed):
    rng = np.random.default_rng(seed)
    run, label = classified(seed)
    loss = np.log1p(np.exp(-rng.normal(0, 0.1, specimen.VALIDATION)))
    nothing = replace(
        run,
        margin_N=rng.normal(0, 0.1, N),
        example_loss_EV=np.tile(loss, (10, 1)),
        loss_S=specimen.NULL + rng.normal(0, 0.02, specimen.STEPS),
    )
    assert not failed(label_noise(nothing, label))


def test_share_of_a_regression_is_that_of_errors_beyond_validation():
    run = regressed(1, 0.3)
    error, usual = -run.margin_N, np.sqrt(run.example_loss_EV[0])
    usual = usual * min(np.quantile(error, 0.25) / np.quantile(usual, 0.25), 1)
    expected = np.mean(error > np.quantile(usual, 0.9)) - 0.1
    assert label_noise(run).reading.statistic == pytest.approx(expected, rel=1e-9)


def test_class_that_is_not_learned_is_not_wrong_however_its_margins_scatter():
    run, label = classified(1)
    rng = np.random.default_rng(2)
    rare = np.where(rng.random(N) < 0.4, -4.0, rng.normal(-0.2, 0.05, N))
    scattered = replace(run, margin_N=np.where(label == 0, rare, run.margin_N))
    assert not failed(label_noise(replace(scattered, example_loss_EV=np.zeros((0, 0))), label))


def test_worst_examples_are_listed():
    run, label = classified(1)
    run.margin_N[[5, 77]] = [-30.0, -40.0]
    assert label_noise(run, label).reading.evidence["examples with the lowest margins"][:2] == [77, 5]


def test_without_margins_or_behind_a_divergence_nothing_is_said():
    run, label = classified(1, 0.3)
    assert np.isnan(label_noise(replace(run, margin_N=np.zeros(0)), label).reading.statistic)
    diverged = replace(run, loss_S=np.where(np.arange(specimen.STEPS) < 90, specimen.fall(), 30.0))
    assert np.isnan(label_noise(diverged, label).reading.statistic)


def test_labels_of_other_examples_are_refused():
    run = specimen.clean(1)
    found = label_noise(run, np.zeros(len(run.margin_N) - 1, dtype=np.int64))
    assert f"{len(run.margin_N) - 1} labels for the margins of {len(run.margin_N)}" in found.error
