import pytest

from ci_tools.report import markdown
from ci_tools.report.markdown import code, details, prose, table, units
from tests.report.parsed import GITHUB, LINKED, names, tokens, words


@pytest.mark.parametrize("text", ["a", "a b", "a*b*", "<b>", "\\", "x\\", "[a](b)", " a", "a ", " a ", "@you", "&lt;"])
def test_code_shows_a_name_as_it_is(text):
    assert names(code(text)) == [text]
    assert names(table(["head"], [[code(text)]])) == [text]


def test_code_replaces_what_ends_code_and_cells():
    assert names(f"x {code('a`b')} y {code('c|d')}") == ["a\u02cbb", "c\u00a6d"]


def test_no_name_is_no_code():
    assert code("") == ""


def test_table_has_a_cell_for_each_value():
    html = GITHUB.render(table(["a", "b"], [[code("x|y"), "1"], ["`z`", "2"]], right=[1]))
    assert html.count("<td") == 4
    assert html.count("text-align:right") == 3


def test_details_holds_markdown_and_can_be_open():
    html = GITHUB.render(details("Cost: 3 s", "**bold**", True))
    assert "<details open><summary>Cost: 3 s</summary>" in html
    assert "<strong>bold</strong>" in html


SENTENCE = "terminal_count_30d (PSI 0.602) isn't `fine`: 5 % > 1 %, see #12 and @you"


def test_prose_reads_as_it_was_said():
    (said,) = words(prose(SENTENCE))
    assert said.replace("\u2060", "") == SENTENCE


@pytest.mark.parametrize(
    "text",
    ["@octocat", "#1", "GH-12", "gh-12", "https://a.example", "www.a.example", "a@b.example", ":tada:", "0123abcd" * 5],
)
def test_prose_is_not_linked(text):
    for found in words(prose(f"see {text} there")):
        assert not LINKED.search(found)


def test_prose_is_one_line_of_limited_length():
    assert len(list(tokens(prose("a\n\n# b\r\n\tc")))) == len(list(tokens("a b c")))
    assert prose("x" * 50, longest=10) == "x" * 9 + "…"


def test_units_count_what_lies_beyond_the_first_plane_twice():
    assert units("a√🙂") == 4


def test_link_keeps_its_address():
    (opened,) = [t for t in tokens(markdown.link("run", "https://a.example/x?y=1&z=_2_")) if t.type == "link_open"]
    assert opened.attrs["href"] == "https://a.example/x?y=1&z=_2_"
