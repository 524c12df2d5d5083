"""Every metric against an independent implementation in plain Python, ties included; tolerance 1e-12."""

import math

import numpy as np
import pytest

from model import metrics
from tests.scored import KINDS, sample

kinds = pytest.mark.parametrize("kind", KINDS)


def confusion(label, score):
    """(threshold, true positives, false positives) at each distinct score, from the highest."""
    return [
        (t, sum(label[score >= t] == 1), sum(label[score >= t] == 0)) for t in sorted(set(score.tolist()), reverse=True)
    ]


def measured(label, score, bins=10, floor=0.5):
    return metrics.measure(label, score, precision_floor=floor, bins=bins)


@kinds
def test_average_precision_is_the_step_sum_over_distinct_scores(kind):
    label, score = sample(kind)
    total, caught = 0.0, 0.0
    for _, tp, fp in confusion(label, score):
        recall = tp / label.sum()
        total += (recall - caught) * tp / (tp + fp)
        caught = recall
    assert measured(label, score)["average_precision"] == pytest.approx(total, abs=1e-12)


@kinds
def test_roc_auc_is_the_share_of_ordered_pairs_with_ties_as_half(kind):
    label, score = sample(kind)
    positive, negative = score[label == 1][:, None], score[label == 0][None, :]
    expected = ((positive > negative).sum() + 0.5 * (positive == negative).sum()) / (positive.size * negative.size)
    assert measured(label, score)["roc_auc"] == pytest.approx(expected, abs=1e-12)


@kinds
def test_log_loss_is_finite_and_equals_the_sum_of_surprises(kind):
    label, score = sample(kind)
    epsilon = 2.0**-23
    surprise = [
        -math.log(min(max(p if y else 1 - p, epsilon), 1 - epsilon))
        for y, p in zip(label.tolist(), score.tolist(), strict=True)
    ]
    assert measured(label, score)["log_loss"] == pytest.approx(sum(surprise) / len(surprise), abs=1e-12)


@kinds
def test_calibration_error_equals_a_walk_over_sorted_rows(kind):
    label, score = sample(kind)
    pairs = sorted(zip(score.tolist(), label.tolist(), strict=True))
    bins, position = {}, {}
    for index, (p, y) in enumerate(pairs):
        first = position.setdefault(p, index)
        bins.setdefault(int(first / len(pairs) * 10), []).append((p, y))
    expected = sum(abs(sum(p for p, _ in b) / len(b) - sum(y for _, y in b) / len(b)) * len(b) for b in bins.values())
    assert measured(label, score)["calibration_error"] == pytest.approx(expected / len(pairs), abs=1e-12)


def test_calibration_bins_hold_equal_mass_without_ties():
    label, score = sample("distinct")
    curve = metrics.calibration(label, np.argsort(np.argsort(score)) / len(score), 16)
    assert curve.n.tolist() == [25] * 16
    assert (np.diff(curve.predicted) > 0).all()


def test_a_perfectly_calibrated_score_has_no_calibration_error():
    label = np.array([0, 0, 0, 1, 0, 1, 1, 1], np.float32)
    assert metrics.calibration_error(label, np.array([0.25] * 4 + [0.75] * 4, np.float32), 2) == 0.0


@kinds
@pytest.mark.parametrize("floor", [0.05, 0.3, 0.5, 0.99])
def test_recall_at_precision_is_the_best_over_all_thresholds_and_the_threshold_attains_it(kind, floor):
    label, score = sample(kind)
    reached = [tp / label.sum() for _, tp, fp in confusion(label, score) if tp and tp / (tp + fp) >= floor]
    point = metrics.operating_point(label, score, floor)
    assert point.recall == pytest.approx(max(reached, default=0.0), abs=1e-12)
    if not reached:
        assert point.threshold is None
    else:
        flagged = score >= point.threshold
        assert label[flagged].mean() >= floor
        assert label[flagged].sum() / label.sum() == pytest.approx(point.recall, abs=1e-12)
        assert point.threshold == 0 or point.threshold not in score


@kinds
def test_metrics_do_not_depend_on_row_order(kind):
    label, score = sample(kind)
    order = np.random.default_rng(1).permutation(len(label))
    assert measured(label[order], score[order]) == pytest.approx(measured(label, score), abs=1e-12)


@kinds
def test_precision_recall_curve_takes_the_highest_threshold_reaching_each_recall(kind):
    label, score = sample(kind)
    grid = np.linspace(0, 1, 11)
    expected = [
        next(tp / (tp + fp) for _, tp, fp in confusion(label, score) if tp / label.sum() >= r - 1e-9) for r in grid
    ]
    assert metrics.precision_at(label, score, grid) == pytest.approx(expected, abs=1e-12)


@kinds
def test_roc_curve_takes_the_best_rate_within_each_false_positive_rate(kind):
    label, score = sample(kind)
    grid = np.linspace(0, 1, 11)
    points = [(0, 0)] + [(fp / (label == 0).sum(), tp / label.sum()) for _, tp, fp in confusion(label, score)]
    expected = [max(tpr for fpr, tpr in points if fpr <= x + 1e-9) for x in grid]
    assert metrics.true_positive_rate_at(label, score, grid) == pytest.approx(expected, abs=1e-12)
