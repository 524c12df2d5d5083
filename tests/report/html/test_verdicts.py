import math
from dataclasses import replace

import pytest

from ci_tools.gates import floor
from ci_tools.gates.verdict import Outcome
from ci_tools.report import answer, numerals
from ci_tools.report.html.verdicts import RESERVED, banner, grouped, node, number, rows, steady, whisker
from tests.report.html import cases

FAILED, ERROR, OPEN, PASSED = Outcome.FAILED, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASSED
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("found", "tone", "title", "detail"),
    [
        ([cases.verdict()], "passed", "You can merge", "1 of 1 verdict passed; nothing blocks it"),
        ([cases.verdict("slow", FAILED, blocks=False)], RESERVED, "You can merge", "what failed does not block"),
        ([cases.verdict("slow", FAILED)], "failed", "Do not merge", "1 verdict stops it: slow."),
        ([cases.verdict("slow", ERROR, blocks=True)], "error", "Do not merge", "The run could not be judged: slow."),
        ([cases.verdict("slow", OPEN, blocks=True)], "inconclusive", "Do not merge yet", "does not decide: slow."),
        ([], "error", "Do not merge", "there is no verdict at all."),
    ],
)
def test_banner_says_what_the_exit_code_says(found, tone, title, detail):
    verdicts = cases.verdicts(*found)
    told = banner(verdicts, ["finished"])
    assert (told.tone, told.title) == (tone, title)
    assert detail in told.detail
    assert (told.title == "You can merge") == (verdicts.exit_code == 0)


def test_refused_input_is_no_judgement():
    told = banner(cases.verdicts(cases.verdict(), refused=True), ["finished"])
    assert (told.tone, told.title) == ("error", "Do not merge")
    assert "break a rule" in told.detail


@pytest.mark.parametrize(
    ("values", "statuses", "tone"),
    [
        ({}, ["finished"], "passed"),
        ({"selection": "divergence"}, ["finished"], RESERVED),
        ({}, ["finished", "crashed"], RESERVED),
        ({}, ["unreadable"], RESERVED),
    ],
)
def test_pass_that_leaves_something_untested_is_not_green(values, statuses, tone):
    found = replace(cases.passing(), **values)
    assert banner(found, statuses).tone == tone


@pytest.mark.parametrize("change", [{}, {"selection": "a"}, {"base": ""}, {"refused": True}])
def test_page_answers_as_the_comment_does(change):
    found = replace(cases.passing(), **change)
    said = answer.of(
        found.verdicts, found.exit_code, base=found.base, selected=bool(found.selection), statuses=["finished"]
    )
    told = banner(found, ["finished"])
    assert told.title == said.title
    assert said.reason in told.detail[0].lower() + told.detail[1:]


def test_likely_cause_stands_first():
    bad = [cases.verdict(gate, FAILED) for gate in ("plateau", "divergence", "stragglers")]
    verdicts = cases.verdicts(*bad)
    assert [row.verdict.gate for row in rows(verdicts)] == ["divergence", "plateau", "stragglers"]
    assert banner(verdicts, []).detail.endswith("divergence, plateau, stragglers.")


def test_test_that_has_not_ended_stands_among_the_errors():
    waiting = cases.verdict("slow", ERROR, blocks=True)
    found = rows(cases.verdicts(cases.verdict(), pending=(waiting,)))
    assert [(row.verdict.gate, row.pending) for row in found] == [("slow", True), ("divergence", False)]


@pytest.mark.parametrize(
    ("outcome", "blocks", "note"),
    [
        (FAILED, True, ""),
        (FAILED, False, "does not block"),
        (OPEN, True, "blocks"),
        (OPEN, False, ""),
        (PASSED, False, ""),
    ],
)
def test_note_stands_where_the_badge_alone_would_mislead(outcome, blocks, note):
    (row,) = rows(cases.verdicts(cases.verdict(outcome=outcome, blocks=blocks)))
    assert row.note == note


def test_gates_that_measured_nothing_for_one_reason_share_a_row():
    silent = [cases.verdict(f"gate{i}", OPEN, diagnosis="no base", remedy="") for i in range(3)]
    others = [cases.verdict("own", OPEN, diagnosis="own reason", remedy=""), cases.verdict("bad", FAILED)]
    blocking = cases.verdict("must", OPEN, diagnosis="no base", remedy="", blocks=True)
    single, groups = grouped(rows(cases.verdicts(*silent, *others, blocking)))
    assert {row.verdict.gate for row in single} == {"own", "bad", "must"}
    ((group,),) = [groups]
    assert [row.verdict.gate for row in group.rows] == ["gate0", "gate1", "gate2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12.3456, "12.3"),
        (-0.5, f"{MINUS}0.5"),
        (1e-9, f"1e{MINUS}09"),
        (math.inf, "∞"),
        (-math.inf, f"{MINUS}∞"),
        (-0.0, "0"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_what_was_not_measured_is_a_dash():
    assert number(None) == number(math.nan) == steady(None) == numerals.MISSING


@pytest.mark.parametrize(("higher", "sign", "measured"), [(True, "≥", "0.791"), (False, "≤", "0.709")])
def test_floor_is_told_by_the_value_and_not_by_what_it_lacks(higher, sign, measured):
    evidence = floor.evidence(0.75, higher)
    verdict = cases.verdict(
        "quality_floor", statistic=-0.0412, threshold=0.0, interval=(-0.05, -0.03), evidence=evidence
    )
    (row,) = rows(cases.verdicts(verdict))
    assert (row.measured, row.sign, row.limit, row.unit) == (measured, sign, "0.75", "")
    assert row.interval == ("0.78 to 0.8" if higher else "0.7 to 0.72")
    assert row.whisker.value < row.whisker.limit, "the picture shows the statistic, which is better the smaller it is"


def test_column_of_values_has_equally_many_digits():
    assert [steady(value) for value in (0.8, 0.81234, 0.0225)] == ["0.8000", "0.8123", "0.02250"]


@pytest.mark.parametrize(("low", "value", "high"), [(-1, 0, 1), (0.1, 0.5, 0.9), (2, 3, 4), (-5, -4, -3), (0, 0, 0)])
@pytest.mark.parametrize("limit", [0.0, 0.5, 2.5])
def test_places_keep_the_order_of_the_numbers(low, value, high, limit):
    drawn = whisker(low, high, value, limit)
    numbers, places = (low, value, high, limit, 0.0), (drawn.low, drawn.value, drawn.high, drawn.limit, drawn.zero)
    assert all(0 <= place <= 100 for place in places)
    for one, at in zip(numbers, places, strict=True):
        for other, there in zip(numbers, places, strict=True):
            assert one >= other or at <= there


@pytest.mark.parametrize("high", [500.0, math.inf])
def test_interval_far_beyond_the_limit_is_cut_and_leaves_room_for_the_rest(high):
    drawn = whisker(0.1, high, 0.1, 6.0)
    assert drawn.cut
    assert drawn.limit > 15
    assert drawn.high == 100


def test_interval_that_fits_is_not_cut():
    assert not whisker(0.1, 6.5, 3.0, 6.0).cut


def test_evidence_of_any_shape_becomes_text():
    shown = node({"n": 3, "share": 0.25, "ok": True, "none": None, "empty": [], "steps": [1, 2]})
    assert shown.kind == "pairs"
    assert [item.text for item in shown.items][:5] == ["3", "0.25", "yes", numerals.MISSING, "none"]
    assert [item.text for item in shown.items[5].items] == ["1", "2"]


def test_list_of_objects_becomes_a_table_with_all_their_keys():
    shown = node([{"a": 1}, {"a": 2, "b": "x"}])
    assert (shown.kind, list(shown.keys)) == ("table", ["a", "b"])
    assert [[cell.text for cell in line.items] for line in shown.items] == [["1", numerals.MISSING], ["2", "x"]]


def test_long_lists_texts_and_deep_trees_are_cut():
    assert node(list(range(1000))).left_out == 988
    assert node({str(i): i for i in range(1000)}).left_out == 960
    assert len(node("x" * 10_000).text) == 400
    deep = value = {}
    for _ in range(50):
        value["x"] = value = {}
    assert node(deep).items[0].items[0].items[0].kind == "text"
    assert len(node(10**4000).text) == 400


def test_evidence_nested_deeper_than_json_can_write_is_cut():
    value = []
    for _ in range(100_000):
        value = [value]
    assert node(value).items[0].items[0].items[0].text == "…"


def test_statistic_and_limit_that_differ_do_not_read_alike():
    (row,) = rows(cases.verdicts(cases.verdict(outcome=FAILED, statistic=0.200004, threshold=0.2)))
    assert (row.measured, row.limit) == ("0.200004", "0.2")


def test_evidence_of_a_verdict_that_has_none_is_left_out():
    (row,) = rows(cases.verdicts(replace(cases.verdict(), evidence={})))
    assert row.evidence is None
