"""One row per step out of five streams."""

import math

import numpy as np
import pytest

from ci_tools.record.reader import open_record
from ci_tools.record.schema import HISTOGRAM_BINS
from ci_tools.report.track.follow import follow
from ci_tools.report.track.history import EDGES, PROBE_LAYERS, TRACE_LAYERS, TRACE_VALUES, Histogram, History
from tests.report.track.written import Written, finished


def points(record, **how):
    looks = list(follow(record, **how))
    history = History(looks[0].meta)
    return [point for look in looks for point in history.add(look)]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("history") / "run")


@pytest.fixture(scope="module")
def told(record):
    return points(record)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def test_each_row_of_the_trace_is_a_point_with_its_exact_values(record, told):
    trace = open_record(record).trace
    assert [point.number for point in told] == list(range(trace.num_rows))
    for column, name in TRACE_VALUES.items():
        for value, point in zip(trace.column(column).to_pylist(), told, strict=True):
            assert same(point.values[name], value), name


def test_probe_is_told_with_its_step(record, told):
    opened = open_record(record)
    layers = [layer.name for layer in opened.meta.layers]
    by_step = {row["step"]: row for row in opened.probes.to_pylist()}
    trace = opened.trace.to_pylist()
    assert by_step
    for point in told:
        probe = by_step.get(point.number)
        assert ("noise/noise_scale" in point.values) == (probe is not None)
        for i, layer in enumerate(layers if probe else []):
            found = point.values[f"gradients/log2_magnitude/{layer}"]
            assert found == Histogram(probe["histogram"][i], list(EDGES))
            for row, columns in ((probe, PROBE_LAYERS), (trace[point.number], TRACE_LAYERS)):
                for column, name in columns.items():
                    assert same(point.values[f"{name}/{layer}"], row[column][i])


def test_edges_are_those_of_the_documented_bins():
    assert len(EDGES) == HISTOGRAM_BINS + 1
    assert [2.0**edge for edge in EDGES[1:3]] == [2.0**-27, 2.0**-26]  # bin 1
    assert 2.0 ** EDGES[31] == 8.0  # where the last bin begins


def test_evaluation_is_told_with_the_step_before_it(record, told):
    evals = {(row["step"], row["metric"]): row["value"] for row in open_record(record).evals.to_pylist()}
    assert {step for step, _ in evals} == {20, 40, 60}
    for (step, metric), value in evals.items():
        assert told[step - 1].values[f"evaluation/validation/{metric}"] == value
    assert sum("evaluation/validation/loss" in point.values for point in told) == 3


def test_points_do_not_depend_on_how_the_record_was_looked_at(tmp_path):
    blocks = [(0, 9), (9, 10), (10, 20), (20, 21), (21, 60)]
    run = Written(tmp_path / "run")
    work = iter([*(lambda block=block: run.steps(*block) for block in blocks), lambda: run.end("failed")])
    live = points(run.folder, sleep=lambda _: next(work)())
    assert repr(live) == repr(points(run.folder))
    assert len(live) == 60


def test_evaluation_that_comes_after_its_row_is_still_told_with_it(tmp_path):
    run = Written(tmp_path / "run")
    run.steps(0, 10)
    work = iter([lambda: run.evaluate(10), lambda: run.steps(10, 15), lambda: run.end("failed")])
    live = points(run.folder, sleep=lambda _: next(work)())
    assert "evaluation/validation/loss" in live[9].values


def test_attempts_are_numbered_on_and_keep_their_own_evaluations(tmp_path):
    run = Written(tmp_path / "run")
    run.steps(0, 40)
    run.note(recoveries=[{"onset_step": 35, "from_step": 15, "reason": "loss"}])
    run.steps(15, 40, attempt=1)
    run.end()
    told = points(run.folder)
    assert [point.number for point in told] == list(range(65))
    assert [point.values["step"] for point in told] == [*range(40), *range(15, 40)]
    before, after = (told[row].values["evaluation/validation/loss"] for row in (19, 44))
    assert (told[19].values["step"], told[44].values["step"]) == (19, 19)
    assert before != after


def test_evaluation_before_the_first_step_is_told_with_it(tmp_path):
    run = Written(tmp_path / "run")
    run.evaluate(0)
    run.steps(0, 5)
    run.end()
    assert "evaluation/validation/loss" in points(run.folder)[0].values


def test_losses_per_example_become_a_histogram_of_the_finite_ones(tmp_path):
    run = Written(tmp_path / "run")
    run.steps(0, 20)
    losses = np.array([0.5, 1.5, 2.5, np.nan, np.inf], np.float32)
    run._append("losses.arrows", [{"step": 20, "attempt": 0, "split": "validation", "loss": losses}])
    run.end()
    histogram = points(run.folder)[19].values["evaluation/validation/loss_per_example"]
    assert sum(histogram.counts) == 3
    assert (histogram.edges[0], histogram.edges[-1]) == (0.5, 2.5)


def test_shadow_steps_are_told_per_layer(tmp_path):
    run = Written(tmp_path / "run")
    run.steps(0, 20)
    row = {"step": 10, "attempt": 0, "error": [1e-7, 2e-7, 3e-7], "sensitivity": [1e-6, 2e-6, 3e-6]}
    run._append("shadows.arrows", [row])
    run.end()
    values = points(run.folder)[9].values
    assert values["numerics/error/head.bias"] == pytest.approx(3e-7)
    assert values["numerics/sensitivity/embed.weight"] == pytest.approx(1e-6)


def test_names_from_a_pull_request_keep_nothing_that_steers_a_terminal(tmp_path):
    run = Written(tmp_path / "run", layers=("a\x1b[2J",), splits=("v\n",), metrics=("m\u202e",))
    run.steps(0, 20)
    run.end()
    for point in points(run.folder):
        assert all(name.isprintable() for name in point.values)


def test_record_without_layers_and_rows_has_no_points(tmp_path):
    run = Written(tmp_path / "run", layers=())
    run.end("failed")
    assert points(run.folder) == []
