"""Metrics and their derivatives against scikit-learn, numerical differentiation, the bootstrap and plain loops."""

import numpy as np
import pytest
from sklearn import metrics as sk

from ci_tools.gates import metrics
from model import metrics as reported
from tests import scored
from tests.scored import KINDS

SKLEARN = {
    "average_precision": sk.average_precision_score,
    "roc_auc": sk.roc_auc_score,
    "log_loss": lambda label, score, sample_weight=None: sk.log_loss(
        label, np.clip(score, 2.0**-23, 1 - 2.0**-23), sample_weight=sample_weight, labels=[0, 1]
    ),
}
each = pytest.mark.parametrize("name", metrics.METRICS)


def sample(kind, n=300):
    """In double precision, as metrics are computed."""
    label, score = scored.sample(kind, n)
    return label.astype(np.float64), score.astype(np.float64)


@each
@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_scikit_learn(name, kind):
    label, score = sample(kind)
    assert metrics.METRICS[name](label, score).value == pytest.approx(SKLEARN[name](label, score), abs=1e-12)


@each
@pytest.mark.parametrize("kind", KINDS)
def test_derivative_is_the_central_difference_of_scikit_learns_weighted_metric(name, kind):
    label, score = sample(kind, n=40)
    derivative = metrics.METRICS[name](label, score).derivative_N
    assert derivative.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-5
    for row in range(len(label)):
        up, down = (np.ones(len(label)) for _ in range(2))
        up[row], down[row] = 1 + step, 1 - step
        slope = (SKLEARN[name](label, score, sample_weight=up) - SKLEARN[name](label, score, sample_weight=down)) / (
            2 * step
        )
        assert derivative[row] == pytest.approx(slope, abs=1e-7)


@each
def test_covariance_of_two_models_is_that_of_the_bootstrap(name):
    label, score = sample("distinct", n=500)
    other = np.clip(score + np.random.default_rng(1).normal(0, 0.1, len(score)), 0.01, 0.99)
    derivatives = np.stack([metrics.METRICS[name](label, s).derivative_N for s in (score, other)])
    rng, drawn = np.random.default_rng(2), []
    for _ in range(1_500):
        rows = rng.integers(0, len(label), len(label))
        drawn.append([metrics.METRICS[name](label[rows], s[rows]).value for s in (score, other)])
    expected = np.cov(np.array(drawn).T)
    np.testing.assert_allclose(derivatives @ derivatives.T, expected, rtol=0.12)


def test_variance_of_the_area_under_the_curve_is_delongs():
    label, score = sample("ties")
    positive, negative = score[label == 1][:, None], score[label == 0][None, :]
    wins = (positive > negative) + 0.5 * (positive == negative)
    p, n = wins.shape
    # DeLong divides by p - 1 and n - 1 where the infinitesimal jackknife divides by p and n.
    expected = wins.mean(axis=1).var() / p + wins.mean(axis=0).var() / n
    derivative = metrics.roc_auc(label, score).derivative_N
    assert derivative @ derivative == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_error_is_the_one_that_evaluation_reports(kind):
    label, score = sample(kind)
    assert metrics.calibration(label, score, 15).error == pytest.approx(
        reported.calibration_error(label, score, 15), abs=1e-12
    )


@pytest.mark.parametrize("kind", ["distinct", "ties"])
def test_calibrated_errors_are_distributed_like_those_of_labels_drawn_one_by_one(kind):
    _, score = sample(kind)
    found = metrics.calibrated_errors(score, 10, 1_500, seed=1)
    rng = np.random.default_rng(2)
    drawn = [metrics.calibration(rng.random(len(score)) < score, score, 10).error for _ in range(1_500)]
    assert found.mean() == pytest.approx(np.mean(drawn), rel=0.03)
    np.testing.assert_allclose(np.quantile(found, [0.025, 0.975]), np.quantile(drawn, [0.025, 0.975]), rtol=0.06)
