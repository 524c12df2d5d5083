import json

import pytest

from ci_tools.harmless import in_json, in_log, one_line
from tests.report.hostile import COMMAND, STRINGS


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_no_command_is_left_in_a_log(text):
    for found in (text, f"  {text}", f"x\r{text}", f"#{text}"):
        assert not COMMAND.search(in_log(found))
        assert one_line(found).isprintable()
        assert not COMMAND.search(one_line(found))


@pytest.mark.parametrize("text", ["plain", "a::b", "ns::f(x)", "# [1]", "50 %\nnext: line"])
def test_text_without_a_command_stays_as_it_is(text):
    assert in_log(text) == text


@pytest.mark.parametrize("text", ["##[error]x", "\\##[x", "####[[", "::error::x"])
def test_json_holds_the_same_values_and_no_command(text):
    shown = in_json(json.dumps({text: [text]}, indent=2))
    assert json.loads(shown) == {text: [text]}
    assert not COMMAND.search(shown)


def test_long_line_is_cut_visibly():
    assert one_line("x" * 500, 10) == "x" * 9 + "…"
