import math

import pytest

from ci_tools.report import numerals


@pytest.mark.parametrize(
    ("values", "width", "places"),
    [
        ([0.79], 0.0, 3),
        ([0.0226], 0.0, 4),
        ([0.98], 0.0015, 4),
        ([0.98], 0.0001, 5),
        ([0.98], 1e-9, 5),
        ([1234.5], 0.0, 0),
        ([], 0.0, 3),
    ],
)
def test_decimal_places_show_the_change(values, width, places):
    assert numerals.places(values, width) == places


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")],
)
def test_duration(seconds, shown):
    assert numerals.seconds(seconds) == shown


@pytest.mark.parametrize(("joules", "shown"), [(850, "850 J"), (44_280, "12.3 Wh"), (4.5e6, "1.25 kWh")])
def test_energy(joules, shown):
    assert numerals.energy(joules) == shown


def test_signs_are_such_that_no_line_breaks_behind_them():
    assert numerals.fixed(-0.5, 2, plus=True) == "\u22120.50"
    assert numerals.fixed(0.5, 2, plus=True) == "+0.50"
    assert numerals.short(-1e-9) == "\u22121e\u221209"
    assert numerals.span((None, 0.5), 1) == "\u2212∞ to +0.5"
    assert numerals.between((-0.5, math.inf)) == "\u22120.5 to +∞"


@pytest.mark.parametrize("value", [-1e-7, 1e-7, -0.0, 0.0])
def test_what_reads_as_zero_has_no_sign(value):
    assert numerals.fixed(value, 4, plus=True) == numerals.fixed(value, 4) == "0.0000"
    assert numerals.fixed(value, 0, plus=True) == "0"


def test_span_that_ends_at_zero_has_no_signed_zero():
    assert numerals.span((-0.1, -1e-9), 2) == "\u22120.10 to 0.00"


def test_missing_number_is_a_dash():
    assert numerals.short(None) == numerals.fixed(None, 3) == "—"
    assert numerals.seconds(None) == numerals.energy(None) == "—"


@pytest.mark.parametrize(("number", "said"), [(0, "0 seeds"), (1, "1 seed"), (2000, "2,000 seeds")])
def test_one_is_no_plural(number, said):
    assert numerals.plural(number, "seed") == said
