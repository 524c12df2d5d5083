import pytest

from ci_tools import pipeline
from ci_tools.actions import output
from ci_tools.errors import PREEMPTED, SwitchbackError


@pytest.fixture
def told(tmp_path, monkeypatch):
    path = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(path))
    return path


def test_outputs_are_lines_of_the_file_that_actions_names(told):
    output("drifted", True)
    output("preempted", False)
    assert told.read_text() == "drifted=true\npreempted=false\n"


def test_elsewhere_nothing_is_written(told, monkeypatch):
    monkeypatch.delenv("GITHUB_OUTPUT")
    output("drifted", True)
    assert not told.exists()


def test_file_that_cannot_be_written_is_an_error(told):
    told.mkdir()
    with pytest.raises(SwitchbackError, match="Is a directory"):
        output("drifted", True)


@pytest.mark.parametrize(("code", "text"), [(PREEMPTED, "preempted=true\n"), (1, None)])
def test_only_a_run_that_was_taken_away_says_so(told, monkeypatch, switchback, code, text):
    failure = SwitchbackError("the stage was told to stop")
    failure.exit_code = code

    def reproduce(*_, **__):
        raise failure

    monkeypatch.setattr(pipeline, "reproduce", reproduce)
    assert switchback("reproduce")[0] == code
    assert (told.read_text() if told.exists() else None) == text
