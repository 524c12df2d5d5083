import pytest

from ci_tools.report.track.names import plain


@pytest.mark.parametrize("name", ["", "blocks.0.weight", "größe", "価格 (円)", "a/b", '"<b>"', "x" * 120])
def test_printable_name_stays_as_it_is(name):
    assert plain(name) == name


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\u202egnp", "\u200b", "half \ud800", "\u2028", "x" * 121])
def test_other_name_becomes_short_and_printable(name):
    assert plain(name).isprintable()
    assert len(plain(name)) <= 120
    plain(name).encode()


def test_different_names_stay_different():
    names = ["a\nb", "a\rb", "a\ufffdb", "x" * 121, "x" * 122]
    assert len({plain(name) for name in names}) == len(names)
