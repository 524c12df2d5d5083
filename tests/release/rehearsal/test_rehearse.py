"""How a rehearsal is told and counted, and that none disturbs another."""

import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools.errors import ConfigError
from ci_tools.release.control import Result
from ci_tools.release.rehearsal.rehearse import Part, Rehearsal, _alone, rehearse
from ci_tools.release.rehearsal.spoiled import INVERTED, NAN

ROOT = Path(__file__).parents[3]


def held(good=Result.PROMOTED, bad=Result.ROLLED_BACK, how=INVERTED, lost=0, refused=0):
    fresh = Part(expected=Result.PROMOTED, result=good, sentence="It is safe.", seconds=12.3)
    spoiled = Part(expected=Result.ROLLED_BACK, result=bad, sentence="It flips.", seconds=4.0)
    return Rehearsal(
        bundle="b", fresh=fresh, spoiled=spoiled, how=how, answered=1000, lost=lost, refused=refused, seconds=20.0
    )


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (held(), 0),
        (held(how=NAN, refused=21), 0),
        (held(lost=1), 1),
        (held(good=Result.ROLLED_BACK), 1),
        (held(bad=Result.PROMOTED), 1),
        (held(good=Result.INCONCLUSIVE), 3),
        (held(bad=Result.INCONCLUSIVE), 3),
        (held(good=None), 1),
    ],
)
def test_exit_code_tells_both_ends_and_what_was_lost(done, code):
    assert done.exit_code == done.to_json()["exit_code"] == code


def test_text_tells_apart_what_was_lost_and_what_a_spoiled_copy_refused():
    assert "1,000 requests answered, 0 lost\n  this model:" in str(held())
    assert "1,000 requests answered, 2 lost, 21 refused by the spoiled copy\n" in str(held(how=NAN, lost=2, refused=21))


def test_second_rehearsal_is_refused_while_one_is_under_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from ci_tools.release.rehearsal.rehearse import _alone\n"
        "with _alone():\n    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as other:  # fmt: skip
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another rehearsal is under way"):
            rehearse()
        other.stdin.close()
    with _alone():  # the lock ended with its process
        pass
