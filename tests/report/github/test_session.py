import subprocess
import sys

import pytest

from ci_tools.errors import DependencyUnavailable, SwitchbackError
from ci_tools.report.github import Patience, Target
from ci_tools.report.github.failures import Answer, Deed, Refused
from ci_tools.report.github.session import connect

DEED = Deed("do it", "statuses: write")
BUSY = Refused(Answer(503, "busy"))


def answers(*outcomes):
    """A request with these outcomes, one after the other; the last one stays."""
    left = list(outcomes)

    def request():
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return request


def test_question_is_repeated_until_it_is_answered(patience, clock):
    assert patience.ask(answers(BUSY, BUSY, "yes"), DEED) == "yes"
    assert clock.waits == [1, 2]


def test_refusal_ends_at_once(patience, clock):
    with pytest.raises(SwitchbackError, match="cannot do it: GitHub answered 422 no"):
        patience.ask(answers(Refused(Answer(422, "no"))), DEED)
    assert clock.waits == []


def test_every_question_has_its_own_attempts(patience, clock):
    for _ in range(3):
        assert patience.ask(answers(BUSY, BUSY, BUSY, BUSY, BUSY, "yes"), DEED) == "yes"
    assert sum(clock.waits) == 3 * 31


def test_all_questions_share_one_limit_of_time(clock):
    patience = Patience(total_s=100, clock=clock)
    for _ in range(3):
        patience.ask(answers(BUSY, BUSY, BUSY, BUSY, BUSY, "yes"), DEED)
    with pytest.raises(DependencyUnavailable, match="asked again after 8 s, and 0 s are left"):
        patience.ask(answers(BUSY), DEED)
    assert sum(clock.waits) == 100


def test_time_that_requests_take_counts(clock):
    patience = Patience(total_s=100, clock=clock)

    def slow():
        clock.now += 15
        raise BUSY

    with pytest.raises(DependencyUnavailable, match="asked again after 16 s, and 10 s are left"):
        patience.ask(slow, DEED)
    with pytest.raises(DependencyUnavailable, match="asked again after 1 s, and 0 s are left"):
        patience.ask(slow, DEED)


def test_creation_is_not_repeated_where_it_is_found_to_have_arrived(patience):
    assert patience.create(answers(BUSY, "again"), answers("arrived"), DEED) == "arrived"
    assert patience.create(answers(BUSY, "again"), answers(None), DEED) == "again"
    assert patience.create(answers(BUSY, "again"), answers(BUSY, "arrived"), DEED) == "arrived"


def test_missing_package_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "github", None)
    client = connect(Target(repository="octo/model", token="secret"))
    with pytest.raises(DependencyUnavailable, match=r"PyGithub is not installed. Fix: pip install .*\[report\]"):
        client.__enter__()


def test_package_is_imported_only_when_something_is_sent():
    code = "import sys, ci_tools.report.github; sys.exit('github' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
