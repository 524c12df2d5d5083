import itertools
import re

import pytest

from ci_tools.report import charts
from tests.report import cases
from tests.report.parsed import tokens


def charted(text):
    return [token.content for token in tokens(text) if token.type == "fence" and token.info == "mermaid"]


@pytest.mark.parametrize("case", cases.CASES)
def test_charts_hold_numbers_and_our_words_only(case):
    drawings = charted(cases.comment(case))
    assert len(drawings) == 2
    for drawing in drawings:
        init, kind, *lines = drawing.splitlines()
        assert (init[:9], kind) == ("%%{init: ", "xychart-beta")
        for line in lines:
            assert re.fullmatch(
                r' +(x-axis "step" \d+ --> \d+|y-axis "(loss|value|log10 of the loss)" -?[\d.]+ --> -?[\d.]+'
                r"|line \[-?[\d.]+(, -?[\d.]+)*\])",
                line,
            ), line


def test_chart_ends_where_the_loss_is_no_number_any_more():
    loss, _ = cases.curves(diverged_at=210)
    known = list(itertools.takewhile(lambda value: value is not None, loss.mean))
    assert len(known) < len(loss.mean)
    (drawn, *_) = re.findall(r"line \[(.*)\]", charts.chart(loss))
    assert drawn.count(",") == len(known) - 1
    assert charts.change(loss).endswith("then not finite")


def test_constant_curve_has_an_axis_with_two_ends():
    loss = cases.curves()[0].model_copy(update=dict.fromkeys(("mean", "low", "high"), (0.5,) * 40))
    low, high = re.search(r'y-axis "loss" (\S+) --> (\S+)', charts.chart(loss)).groups()
    assert float(low) < 0.5 < float(high)


def test_curve_of_one_seed_is_one_line():
    loss = cases.curves()[0].model_copy(update={"seeds": 1})
    assert charts.chart(loss).count("line [") == 1


def test_loss_over_several_scales_is_drawn_by_its_logarithm():
    loss = cases.curves()[0]
    assert 'y-axis "log10 of the loss"' in charts.chart(loss)
    small = tuple(0.5 + value / 100 for value in loss.mean)
    flat = loss.model_copy(update=dict.fromkeys(("mean", "low", "high"), small))
    assert 'y-axis "loss"' in charts.chart(flat)
    negative = loss.model_copy(update=dict.fromkeys(("mean", "low", "high"), tuple(-value for value in loss.mean)))
    assert 'y-axis "loss"' in charts.chart(negative)


def test_curve_without_a_number_is_not_drawn():
    loss = cases.curves()[0].model_copy(update=dict.fromkeys(("mean", "low", "high"), (None,) * 40))
    assert charts.chart(loss) == ""
    assert charts.change(loss) == "not finite"


def test_table_of_one_seed_has_no_plural():
    assert "lowest to highest of 1 seed |" in charts.points(cases.curves()[0].model_copy(update={"seeds": 1}))


def test_table_begins_with_the_first_point_and_ends_with_the_last():
    rows = charts.points(cases.curves()[0]).splitlines()[2:]
    assert len(rows) == 6
    assert rows[0].startswith("| 9 |")
    assert rows[-1].startswith("| 399 |")


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e6, 1e11])
def test_numbers_have_no_exponent_and_tell_the_points_apart(scale):
    _, metric = cases.curves()
    values = {key: tuple(value * scale for value in getattr(metric, key)) for key in ("mean", "low", "high")}
    drawn = re.findall(r"line \[(.*)\]", charts.chart(metric.model_copy(update=values)))[-1].split(", ")
    assert "e" not in "".join(drawn)
    assert [float(value) for value in drawn] == pytest.approx(values["mean"], rel=0.01)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("values", [(1e300,) * 40, (-1e300, 1e300) * 20, (5e-324, 1.0) * 20])
def test_numbers_beyond_measure_do_no_harm(values):
    loss = cases.curves()[0].model_copy(update={"mean": values})
    charts.chart(loss)
    charts.points(loss)


def test_mean_below_the_lowest_seed_is_drawn_as_it_is():
    loss = cases.curves()[0].model_copy(update={"mean": (-1.0,) * 40})
    assert 'y-axis "loss" -1' in charts.chart(loss)
