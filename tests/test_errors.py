import re

import pytest

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


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.TrainingFailed("diverged"), 1, "error: diverged"),
        (OSError(28, "No space left on device", "x.npz"), 2, "x.npz: No space left on device. Fix: free some disk"),
        (ModuleNotFoundError("no", name="torch"), 4, "package torch is not installed"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_stage_that_fails_says_why_in_one_line_and_by_exit_code(capsys, error, code, words):
    def work():
        raise error

    assert errors.run_stage(work) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") <= 1


def test_stage_that_works_is_silent(capsys):
    assert errors.run_stage(lambda: None) == 0
    assert capsys.readouterr().err == ""
