from email.utils import format_datetime

import pytest

from ci_tools.errors import DependencyUnavailable, SwitchbackError
from ci_tools.report.github.failures import Answer, Deed, explain, gave_up, seconds_to_wait

NOW = 1_800_000_000.0
DEED = Deed("comment on pull request #5 of octo/model", "pull-requests: write")
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


def wait(status, message="", attempt=1, **headers):
    answer = Answer(status, message, {name.replace("_", "-"): value for name, value in headers.items()})
    return seconds_to_wait(answer, attempt, NOW)


@pytest.mark.parametrize("status", [500, 502, 503, 504, None])
def test_server_errors_and_broken_connections_back_off_by_doubling(status):
    assert [wait(status, attempt=attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]


def test_server_that_asks_for_more_time_gets_it():
    assert wait(503, retry_after="30") == 30
    assert wait(503, retry_after="1", attempt=4) == 8


@pytest.mark.parametrize("status", [403, 429])
def test_rate_limit_waits_as_long_as_it_says(status):
    assert wait(status, retry_after="17") == 17
    assert wait(status, retry_after="0") == 1
    assert wait(status, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOW) + 90)) == 91
    assert wait(status, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOW) - 90)) == 1
    assert wait(status, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOW) + 90), retry_after="5") == 5


@pytest.mark.parametrize("status", [403, 429])
def test_secondary_limit_that_names_no_time_waits_a_minute_then_two(status):
    assert [wait(status, SECONDARY, attempt) for attempt in (1, 2, 3)] == [60, 120, 240]


def test_retry_after_may_be_a_date():
    from datetime import UTC, datetime

    assert wait(429, retry_after=format_datetime(datetime.fromtimestamp(NOW + 40, UTC), usegmt=True)) == 40
    assert wait(429, retry_after="Tue, soon") == 60


@pytest.mark.parametrize("text", ["-5", "1e9", "٣", "9" * 400, "nan"])
def test_nonsense_in_a_header_is_as_if_it_were_not_there(text):
    assert wait(429, retry_after=text) == 60
    assert wait(429, x_ratelimit_remaining="0", x_ratelimit_reset=text) == 60


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422])
def test_waiting_does_not_help_against_refusals(status):
    assert wait(status) is None


def test_forbidden_is_a_rate_limit_only_where_text_or_headers_say_so():
    assert wait(403, "Resource not accessible by integration", x_ratelimit_remaining="4999") is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401, "Bad credentials"), "GITHUB_TOKEN"),
        (Answer(403, "Resource not accessible by integration"), "the token lacks `pull-requests: write`"),
        (Answer(403, "Unable to create comment because issue is locked."), "a locked conversation"),
        (Answer(404, "Not Found"), "it does not exist, or the token must not see it"),
        (Answer(410, "This issue was deleted"), "it does not exist"),
        (Answer(422, "Validation Failed; body is too long"), "body is too long"),
    ],
)
def test_refusal_says_what_failed_why_and_what_to_do(answer, said):
    error = explain(answer, DEED)
    assert (type(error), error.exit_code) == (SwitchbackError, 2)
    assert str(error).startswith(f"cannot {DEED.what}: GitHub answered {answer.status} {answer.message}")
    assert said in str(error)
    assert ". Fix: " in str(error)


def test_answer_that_no_rule_fits_counts_as_an_outage():
    assert isinstance(explain(Answer(200, "something that is not its API"), DEED), DependencyUnavailable)


def test_giving_up_tells_the_last_answer_and_what_ran_out():
    error = gave_up(Answer(502, "Bad Gateway"), DEED, attempts=6, wait_s=32, left_s=100)
    assert error.exit_code == 4
    assert "the last answer was 502 Bad Gateway; attempt 6 was the last" in str(error)
    error = gave_up(Answer(429, "slow down"), DEED, attempts=1, wait_s=1800, left_s=299.7)
    assert "asked again after 1800 s, and 300 s are left" in str(error)


def test_text_of_a_strange_server_stays_one_short_line():
    text = str(Answer(502, "<html>\x1b[31m\n\u202e" + "x" * 5000))
    assert text.isprintable()
    assert len(text) < 250
