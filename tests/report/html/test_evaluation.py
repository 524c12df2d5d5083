import json

import pytest
from scipy.stats import binomtest

from ci_tools.errors import DataError
from ci_tools.gates.policy import Policy
from ci_tools.gates.run import open_run
from ci_tools.gates.verdict import Outcome
from ci_tools.report.html import evaluation
from ci_tools.report.html.evaluation import Bin, against, calibration, quality, wilson
from ci_tools.report.html.reliability import diagram
from ci_tools.report.html.slices import SLICES, slices, worst_slices
from ci_tools.report.html.values import mapping
from tests.report.html import cases


@pytest.fixture
def run(tmp_path):
    (tmp_path / "evaluation").mkdir()
    return open_run((1, 2), tmp_path)


def write(run, name, value):
    (run.root / name).write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (57, 4000), (1, 1)])
def test_interval_is_wilsons(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_metrics_stand_beside_their_spread_and_simpler_models(run):
    spread = {"roc_auc": {"mean": 0.9, "sd": 0.1, "min": 0.8, "max": 1.0}}
    write(
        run, evaluation.METRICS, {"release": {"roc_auc": 0.95, "note": "x"}, "seeds": spread, "trees": {"roc_auc": 0.9}}
    )
    found = quality(run)
    assert found.models == ("trees",)
    assert found.rows == (("roc_auc", 0.95, spread["roc_auc"], (0.9,)),)


def test_metrics_that_only_training_measured_stand_among_them(run):
    (run.root / "runs/seed-1").mkdir(parents=True)
    write(run, "runs/seed-1/metrics.json", {"accuracy": 0.9})
    assert quality(run).rows == (("accuracy", 0.9, {"mean": 0.9, "n": 1.0}, ()),)


def test_metric_that_the_releases_run_lacks_is_shown_of_the_others(run):
    (run.root / "runs/seed-2").mkdir(parents=True)
    write(run, "runs/seed-2/metrics.json", {"accuracy": 0.9, "note": "x"})
    assert quality(run).rows == (("accuracy", None, {"mean": 0.9, "n": 1.0}, ()),)


def test_what_was_not_evaluated_is_none(run):
    assert quality(run) is None
    assert slices(run, Policy()) is None
    assert calibration(run, cases.passing()) == ()


@pytest.mark.parametrize(
    ("outcome", "interval", "reading"),
    [
        (Outcome.PASSED, (-0.003, 0.005), "noise"),
        (Outcome.PASSED, (-float("inf"), float("inf")), "noise"),
        (Outcome.PASSED, (0.001, 0.005), "worse, within the margin"),
        (Outcome.FAILED, (0.03, 0.05), "worse, beyond the margin"),
        (Outcome.INCONCLUSIVE, (-0.003, 0.05), "noise; a loss beyond the margin is not ruled out"),
    ],
)
def test_difference_to_main_reads_as_in_the_comment(run, outcome, interval, reading):
    verdict = cases.against_main(outcome=outcome, statistic=0.01, interval=interval)
    (one,) = against(run, cases.verdicts(verdict), Policy())
    assert one.reading == reading
    assert (one.here, one.main) == pytest.approx((0.795, 0.805))
    assert one.whisker


def test_equal_scores_are_identical(run):
    write(run, evaluation.METRICS, {"release": {"average_precision": 0.8}})
    verdict = cases.against_main(statistic=0.0, interval=None, evidence={})
    (one,) = against(run, cases.verdicts(verdict), Policy())
    assert (one.reading, one.here, one.main) == ("identical", 0.8, 0.8)


def test_whole_number_that_no_float_can_hold_is_left_out(run):
    write(run, evaluation.METRICS, {"release": {"huge": 10**400, "roc_auc": 0.9}})
    assert [row[:2] for row in quality(run).rows] == [("roc_auc", 0.9)]


@pytest.mark.parametrize("depth", [3, 100_000])
def test_list_in_place_of_an_object_is_refused_however_deep(tmp_path, depth):
    value = []
    for _ in range(depth):
        value = [value]
    with pytest.raises(DataError, match="in place of an object"):
        mapping(value, tmp_path)


def test_slices_that_lost_most_come_from_the_evidence():
    evidence = {"worst slices": {"channel=chip": [0.1, 0.3, -0.05], "broken": ["x"], "nan": [0.1, "inf", 0.2]}}
    verdict = cases.verdict("slices_against_main", subject="roc_auc, channel=chip", evidence=evidence)
    assert worst_slices(cases.verdicts(verdict)) == (("roc_auc", "channel=chip", 0.1, -0.05, 0.3),)
    assert worst_slices(cases.verdicts(cases.verdict("slices_against_main", evidence={"worst slices": 3}))) == ()


def test_slice_without_evidence_has_no_place(run):
    few = {"n": 3, "positives": 0, "release": None, "seeds": None}
    many = {
        "n": 900,
        "positives": 90,
        "release": {"roc_auc": 0.9},
        "seeds": {"1": {"roc_auc": 0.9}, "2": {"roc_auc": 0.7}},
    }
    write(run, SLICES, {"channel": {"chip": many, "swipe": few}})
    write(run, evaluation.METRICS, {"release": {"roc_auc": 0.8}})
    found = slices(run, Policy())
    assert found.metric == "roc_auc"
    chip, swipe = found.rows
    assert (chip.place, chip.others, chip.low, chip.high) == (96, (96, 4), 0.7, 0.9)
    assert (swipe.release, swipe.place, swipe.others) == (None, None, ())
    assert found.overall == 50


def test_slices_show_the_metric_that_gates_yaml_names_first(run):
    entry = {"n": 900, "positives": 90, "release": {"roc_auc": 0.9, "log_loss": 0.2}, "seeds": {}}
    write(run, SLICES, {"channel": {"chip": entry}})
    settings = Policy.model_validate({"metrics": {"log_loss": {"higher_is_better": False}}})
    assert slices(run, settings).metric == "log_loss"


def test_calibration_comes_from_the_gate_where_there_is_no_file(run):
    evidence = {"predicted by bin": [0.1, 0.4], "observed by bin": [0.2, 0.3]}
    found = calibration(run, cases.verdicts(cases.verdict("calibration_error", Outcome.PASSED, evidence=evidence)))
    assert [(one.predicted, one.observed, one.rows) for one in found] == [(0.1, 0.2, 0), (0.4, 0.3, 0)]
    assert not diagram(found).known


def bins(*pairs):
    return [Bin(predicted=p, observed=o, rows=100, low=o, high=o) for p, o in pairs]


def test_calibrated_bins_lie_on_the_diagonal():
    for pairs in ([(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)], [(1e-4, 1e-4), (1e-2, 1e-2), (0.9, 0.9)]):
        for point in diagram(bins(*pairs)).points:
            assert point.x == pytest.approx(100 - point.y, abs=0.02)


def test_scores_over_decades_have_logarithmic_axes_and_show_what_was_never_observed():
    drawn = diagram(bins((2e-4, 0.0), (1e-2, 2e-2), (0.5, 0.4)))
    assert drawn.log
    assert [label for _, label in drawn.ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert [point.outside for point in drawn.points] == [True, False, False]
    assert drawn.points[0].y == 100


def test_no_bins_are_no_picture():
    assert diagram([]) is None
