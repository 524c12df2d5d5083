import pytest

from ci_tools.errors import RecordError, TrainingFailed
from ci_tools.record.ending import NOT_FINISHED, ending


@pytest.mark.parametrize(
    ("error", "finished", "replaying", "expected"),
    [
        (None, True, False, ("finished", "")),
        (None, False, False, ("crashed", NOT_FINISHED)),
        (SystemExit(75), False, False, ("preempted", "stopped at step 7")),
        (KeyboardInterrupt(), True, False, ("preempted", "stopped at step 7")),
        (SystemExit(0), False, True, ("replayed", "stopped at step 7")),
        (TrainingFailed("diverged at step 3", where="r"), False, False, ("failed", "r: diverged at step 3")),
        (RecordError("no room", where="r"), True, False, ("crashed", "r: no room")),
        (ValueError("bad batch"), False, False, ("crashed", "ValueError('bad batch')")),
    ],
)
def test_each_way_to_leave_a_run_has_its_status_and_reason(error, finished, replaying, expected):
    assert ending(error, 7, finished=finished, replaying=replaying) == expected
