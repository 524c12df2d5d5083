"""A rehearsal that went well is not held again for the same model under the same rules; all others are."""

import errno
import sys

import pytest

from ci_tools import cli
from ci_tools.errors import ConfigError, DataError
from ci_tools.release import rehearsal
from ci_tools.release.control import Result
from ci_tools.release.rehearsal.remembered import FILE, MODEL_FILE, rehearse_unless_known
from tests.release.rehearsal.test_rehearse import held

REMEMBERED = sys.modules[rehearse_unless_known.__module__]


@pytest.fixture
def rehearsals(tmp_path, monkeypatch):
    """Those that were held, and in a list the one that comes next; the model is there."""
    monkeypatch.chdir(tmp_path)
    MODEL_FILE.parent.mkdir()
    MODEL_FILE.write_bytes(b"model")
    FILE.parent.mkdir(parents=True)
    ends, begun = [held()], []

    def rehearse(tell):
        begun.append(ends[0])
        return ends[0]

    monkeypatch.setattr(REMEMBERED, "rehearse", rehearse)
    return begun, ends


def test_same_model_is_rehearsed_once(rehearsals):
    begun, _ = rehearsals
    first, again = rehearse_unless_known(), rehearse_unless_known()
    assert len(begun) == 1
    assert str(again).startswith(str(first))
    assert "`switchback rehearse` repeats it" in str(again)
    assert (again.exit_code, again.to_json()["before"]) == (0, str(first))


def test_another_model_other_rules_or_a_damaged_memory_are_rehearsed(rehearsals, tmp_path):
    begun, _ = rehearsals
    rehearse_unless_known()
    MODEL_FILE.write_bytes(b"another")
    rehearse_unless_known()
    (tmp_path / "release.yaml").write_text("false_rollback: 0.02\n")
    rehearse_unless_known()
    for text in ("", "[]", "{", '{"key": 1}'):
        FILE.write_text(text)
        rehearse_unless_known()
    assert len(begun) == 7


@pytest.mark.parametrize("end", [held(good=Result.INCONCLUSIVE), held(bad=Result.PROMOTED), held(lost=1)])
def test_one_that_did_not_go_well_is_held_again(rehearsals, end):
    begun, ends = rehearsals
    ends[0] = end
    assert rehearse_unless_known().exit_code == rehearse_unless_known().exit_code > 0
    assert len(begun) == 2


def test_no_model_names_the_command_that_makes_one(rehearsals):
    MODEL_FILE.unlink()
    with pytest.raises(DataError, match=r"model\.onnx: no such file.*Fix: add a stage .*`switchback run`"):
        rehearse_unless_known()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "bundles"), "bundles: No space left on device"),
        (ConfigError("another rehearsal is under way"), "another rehearsal is under way"),
        (ModuleNotFoundError("No module named 'envoy'", name="envoy"), "package envoy is not installed"),
    ],
)
def test_run_keeps_its_verdicts_where_no_rehearsal_can_be_held(monkeypatch, capsys, error, said):
    def fail(tell):
        raise error

    monkeypatch.setattr(rehearsal, "rehearse_unless_known", fail)
    assert cli._rehearsed() is None
    assert f"the release was not rehearsed: {said}" in capsys.readouterr().err
