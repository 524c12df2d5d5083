import re

from ci_tools import errors
from ci_tools.errors import SwitchbackError


def family(kind):
    return {kind} | {member for child in kind.__subclasses__() for member in family(child)}


def test_docstring_tree_lists_every_class_with_its_exit_code():
    listed = dict(re.findall(r"(\w+) +(\d)  ", errors.__doc__))
    assert listed == {kind.__name__: str(kind.exit_code) for kind in family(SwitchbackError) - {SwitchbackError}}


def test_docstring_tree_shows_who_derives_from_whom():
    stack = []
    for indent, name in re.findall(r"^([ │]*)[├└]── (\w+)", errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        del stack[depth:]
        parent = stack[-1] if stack else "SwitchbackError"
        assert getattr(errors, name).__base__.__name__ == parent
        stack.append(name)


def test_sentence_holds_what_where_rule_and_fix():
    assert str(SwitchbackError("W", where="P", rule="R", fix="F")) == "P: W; R. Fix: F"
    assert str(SwitchbackError("W")) == "W"
    assert str(SwitchbackError("W", fix="F")) == "W. Fix: F"
