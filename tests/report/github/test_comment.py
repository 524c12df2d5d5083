import threading
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from ci_tools.errors import DependencyUnavailable, SwitchbackError
from ci_tools.report.github import publish_comment
from ci_tools.report.github.sticky import LONGEST, marked
from tests.report.github.hub import BOT, RESET, Reply, pull_request, refusal

BODY = "## Switchback: passed\n\n| metric | main | here |\n|---|---|---|\n| loss | 0.5 | 0.4 ± 0.01 |\n"
COMMENTS = r"/issues/5/comments"
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.fixture
def publish(target, patience):
    return lambda body=BODY, **options: publish_comment(body, target, patience=patience, **options)


def bodies(hub):
    return [comment["body"] for comment in hub.comments.values()]


def chatter(hub, count):
    for number in range(count):
        hub.comment(f"remark {number}", login="alice")


def test_first_report_creates_a_comment_with_a_hidden_first_line(hub, publish):
    published = publish()
    assert published.action == "created"
    assert published.url == "https://github.com/octo/model/pull/5#issuecomment-101"
    assert bodies(hub) == [f"<!-- switchback:report -->\n{BODY}"]


def test_next_report_edits_it_and_the_same_one_again_is_not_posted(hub, publish):
    publish()
    assert publish("worse").action == "updated"
    assert bodies(hub) == [marked("worse", "report")]
    before = len(hub.sent("POST", "PATCH"))
    assert publish("worse").action == "unchanged"
    assert [path for _, path in hub.sent("POST", "PATCH")[before:]] == ["/graphql"]


def test_comment_on_another_pull_request_is_another_comment(hub, publish, target):
    hub.pulls[6] = pull_request(6)
    other = hub.comment(marked("of another", "report"), issue=6)
    assert publish().action == "created"
    assert hub.comments[other]["body"] == marked("of another", "report")
    sixth = publish_comment(BODY, replace(target, pull_request=6))
    assert (sixth.action, sixth.url.rpartition("#")[0]) == ("updated", "https://github.com/octo/model/pull/6")


def test_comment_is_found_on_the_third_page(hub, publish):
    chatter(hub, 205)
    hub.comment(marked("old", "report"))
    chatter(hub, 10)
    assert publish().action == "updated"
    asked = [dict(parse_qsl(urlsplit(path).query)) for _, path in hub.sent("GET")]
    assert [(query["per_page"], query.get("page", "1")) for query in asked] == [
        ("100", "1"),
        ("100", "2"),
        ("100", "3"),
    ]
    assert bodies(hub).count(marked(BODY, "report")) == 1
    assert len(hub.comments) == 216


def test_comment_of_a_stranger_with_the_same_marker_is_left_alone(hub, publish):
    stolen = hub.comment(marked("all is well", "report"), login="mallory")
    gone = hub.comment(marked("all is well", "report"), login="")
    assert publish().action == "created"
    assert {hub.comments[stolen]["body"], hub.comments[gone]["body"]} == {marked("all is well", "report")}


def test_every_topic_has_its_own_comment(hub, publish):
    publish()
    assert publish("promoted", topic="release").action == "created"
    assert publish("rolled back", topic="release").action == "updated"
    assert bodies(hub) == [marked(BODY, "report"), marked("rolled back", "release")]


@pytest.mark.parametrize("reply", [refusal(403, "Resource not accessible by integration"), refusal(404, "Not Found")])
def test_where_the_account_is_not_told_a_bots_comment_counts(hub, publish, reply, capsys):
    hub.comment(marked("old", "report"))
    hub.comment(marked("old", "report"), login="mallory")
    hub.fail("POST", "/graphql", reply)
    assert publish().action == "updated"
    assert len(hub.comments) == 2
    assert "does not tell whose token" in capsys.readouterr().err


def test_account_that_is_not_told_is_learnt_from_ones_own_comment(hub, publish):
    hub.login = "alice"
    old = hub.comment(marked("old", "report"), login="alice")
    hub.fail("POST", "/graphql", refusal(404, "Not Found"))
    published = publish()
    assert (published.action, published.removed) == ("updated", 1)
    assert list(hub.comments) == [old]


def test_server_that_drops_the_hidden_line_gets_no_flood_of_comments(hub, publish):
    hub.meanwhile("GET", COMMENTS, lambda: None)
    hub.meanwhile("GET", COMMENTS, lambda: [comment.update(body=BODY) for comment in hub.comments.values()])
    assert publish().action == "created"
    assert len(hub.comments) == 1


def test_account_is_asked_for_again_where_a_rate_limit_kept_it_back(hub, publish, clock):
    hub.comment(marked("of another bot", "report"), login="other[bot]")
    hub.fail("POST", "/graphql", refusal(403, SECONDARY))
    assert publish().action == "created"
    assert clock.waits == [60]


def test_person_with_a_token_has_a_sticky_comment_too(hub, publish):
    hub.login = "alice"
    hub.comment(marked("old", "report"), login=BOT)
    assert publish().action == "created"
    assert publish("new").action == "updated"


def test_closed_pull_request_is_commented(hub, publish):
    hub.pulls[5]["state"] = "closed"
    assert publish().action == "created"


def test_locked_pull_request_is_one_clear_error(hub, publish):
    hub.pulls[5]["locked"] = True
    with pytest.raises(SwitchbackError, match=r"issue is locked.*people with write access only.*unlock it") as caught:
        publish()
    assert caught.value.exit_code == 2


def test_missing_permission_is_named(hub, publish):
    hub.permissions.remove("pull-requests")
    with pytest.raises(SwitchbackError, match="the token lacks `pull-requests: write`") as caught:
        publish()
    assert caught.value.exit_code == 2
    assert len(hub.sent("POST")) == 2, "asked whose token it is, tried once"


def test_wrong_token_is_one_clear_error(target, patience):
    with pytest.raises(SwitchbackError, match=r"401 Bad credentials.*GITHUB_TOKEN"):
        publish_comment(BODY, replace(target, token="wrong"), patience=patience)


def test_unknown_pull_request_is_one_clear_error(target, patience):
    with pytest.raises(SwitchbackError, match="pull request #6 of octo/model: GitHub answered 404"):
        publish_comment(BODY, replace(target, pull_request=6), patience=patience)


def test_too_long_comment_is_refused_before_anything_is_sent(hub, publish):
    with pytest.raises(SwitchbackError, match="65,5"):
        publish("x" * LONGEST)
    assert hub.requests == []


def test_refused_values_are_told_in_githubs_words(hub, publish):
    hub.fail("POST", COMMENTS, Reply(422, {"message": "Validation Failed", "errors": [{"message": "body is odd"}]}))
    with pytest.raises(SwitchbackError, match="422 Validation Failed; body is odd"):
        publish()


def test_comment_deleted_between_reading_and_editing_is_made_anew(hub, publish):
    deleted = hub.comment(marked("old", "report"))
    hub.meanwhile("PATCH", "/issues/comments/", hub.comments.clear)
    assert publish().action == "created"
    assert bodies(hub) == [marked(BODY, "report")]
    assert deleted not in hub.comments


def test_deleted_comment_that_a_lagging_list_still_shows_is_made_anew_once(hub, publish):
    hub.comment(marked("old", "report"))
    hub.fail("PATCH", "/issues/comments/", refusal(404, "Not Found"))
    assert publish().action == "created"
    assert len(hub.sent("PATCH")) == 1


def test_list_that_does_not_show_the_new_comment_yet_leads_to_no_second_one(hub, publish):
    hub.fail("GET", COMMENTS, Reply(200, []), times=2)
    assert publish().action == "created"
    assert len(hub.comments) == 1


def test_superfluous_comments_are_removed_and_the_oldest_stays(hub, publish):
    oldest = hub.comment(marked("old", "report"))
    for _ in range(2):
        hub.comment(marked("old", "report"))
    published = publish()
    assert (published.action, published.removed) == ("updated", 2)
    assert list(hub.comments) == [oldest]


def test_rate_limit_is_waited_out_as_long_as_the_server_says(hub, publish, clock):
    hub.fail("GET", COMMENTS, refusal(429, "Too Many Requests", retry_after=17))
    reset = int(clock.now) + 17 + 30
    hub.fail("GET", COMMENTS, refusal(403, "API rate limit exceeded", x_ratelimit_remaining=0, x_ratelimit_reset=reset))
    hub.fail("POST", COMMENTS, refusal(403, SECONDARY))
    assert publish().action == "created"
    assert clock.waits == [17, 31, 60]
    assert len(hub.comments) == 1


def test_limit_longer_than_the_patience_is_not_waited_for(hub, publish, clock):
    hub.fail("GET", COMMENTS, refusal(429, "Too Many Requests", retry_after=1800))
    with pytest.raises(DependencyUnavailable, match="asked again after 1800 s") as caught:
        publish()
    assert caught.value.exit_code == 4
    assert clock.waits == []


@pytest.mark.parametrize(
    "fault", [Reply(500, {"message": "Server Error"}), Reply(502, "<html>Bad Gateway</html>"), RESET]
)
def test_faults_on_the_way_are_tried_again(hub, publish, clock, fault):
    chatter(hub, 150)
    hub.comment(marked("old", "report"))
    hub.fail("POST", "/graphql", fault)
    hub.fail("GET", "page=2", fault, times=2)
    hub.fail("PATCH", "/issues/comments/", fault)
    assert publish().action == "updated"
    assert clock.waits == [1, 1, 2, 1]
    assert len(hub.comments) == 151


def test_list_goes_on_with_the_page_that_failed(hub, publish):
    chatter(hub, 250)
    hub.comment(marked(BODY, "report"))
    hub.fail("GET", "page=3", RESET, times=2)
    assert publish().action == "unchanged"
    asked = [dict(parse_qsl(urlsplit(path).query)).get("page", "1") for _, path in hub.sent("GET")]
    assert asked == ["1", "2", "3", "3", "3"]


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("fault", [Reply(502, {"message": "Bad Gateway"}), RESET])
def test_failed_creation_is_repeated_only_if_it_did_not_arrive(hub, publish, fault, arrives):
    hub.fail("POST", COMMENTS, fault, arrives=arrives)
    assert publish().action == "created"
    assert bodies(hub) == [marked(BODY, "report")]
    assert len([path for _, path in hub.sent("POST") if "comments" in path]) == (1 if arrives else 2)


def test_outage_ends_after_a_bounded_time(hub, publish, clock):
    hub.fail("GET", COMMENTS, Reply(503, {"message": "Unavailable"}), times=50)
    with pytest.raises(DependencyUnavailable, match="503 Unavailable; attempt 6 was the last") as caught:
        publish()
    assert caught.value.exit_code == 4
    assert sum(clock.waits) == 31


def test_outage_of_writes_ends_after_a_bounded_time(hub, publish, clock):
    hub.fail("POST", COMMENTS, refusal(403, SECONDARY), times=50)
    with pytest.raises(DependencyUnavailable, match="secondary rate limit"):
        publish()
    assert sum(clock.waits) <= 300
    assert hub.comments == {}


def test_moved_repository_is_an_error_without_a_traceback(hub, publish):
    moved = {"message": "Temporary Redirect", "url": f"{hub.url}/repositories/1/issues/5/comments"}
    hub.fail("POST", COMMENTS, Reply(307, moved, {"Location": moved["url"]}))
    with pytest.raises(DependencyUnavailable, match=r"cannot comment on pull request #5.*not its API"):
        publish()
    assert len(hub.sent("POST")) == 2


@pytest.mark.parametrize("answer", ["<html>Sign in</html>", {"message": "hello"}, [1, 2], [{"id": "x"}]])
def test_server_that_is_not_github_is_an_error_without_a_traceback(hub, publish, answer):
    hub.fail("GET", COMMENTS, Reply(200, answer))
    with pytest.raises(DependencyUnavailable, match="something that is not its API"):
        publish()


def test_server_that_is_not_there_is_an_error_after_some_attempts(hub, target, patience, clock):
    hub.close()
    with pytest.raises(DependencyUnavailable, match="Connection"):
        publish_comment(BODY, target, patience=patience)
    assert sum(clock.waits) == 31


def test_other_job_that_was_first_keeps_its_comment_and_gets_the_later_text(hub, publish):
    first = []
    hub.meanwhile("POST", COMMENTS, lambda: first.append(hub.comment(marked("first", "report"))))
    published = publish("second")
    assert (published.action, published.removed) == ("updated", 1)
    assert list(hub.comments) == first
    assert bodies(hub) == [marked("second", "report")]


def test_other_job_that_was_second_loses_its_comment(hub, publish):
    # The second request is the look after one's own creation.
    hub.meanwhile("GET", COMMENTS, lambda: None)
    hub.meanwhile("GET", COMMENTS, lambda: hub.comment(marked("second", "report")))
    published = publish("first")
    assert (published.action, published.removed) == ("created", 1)
    assert bodies(hub) == [marked("first", "report")]


@pytest.mark.parametrize("rounds", [1, 2])
def test_two_jobs_at_once_leave_one_comment(hub, target, clock, rounds):
    """Both look before either creates; with two rounds, both look again before either repairs."""
    barrier, done = threading.Barrier(2, timeout=30), []
    hub.meanwhile("GET", COMMENTS, barrier.wait, times=2 * rounds)

    def job(text):
        done.append(publish_comment(text, target))

    jobs = [threading.Thread(target=job, args=(text,)) for text in ("A", "B")]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert len(done) == 2
    assert len([path for _, path in hub.sent("POST") if "comments" in path]) == 2
    older, younger = sorted(hub.first_bodies)
    assert list(hub.comments) == [older]
    assert bodies(hub) == [hub.first_bodies[younger]]
