import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.report.github import open_issue
from ci_tools.report.github.issues import LABEL
from tests.report.github.hub import RESET, Reply

BAD_GATEWAY = Reply(502, {"message": "Bad Gateway"})


@pytest.fixture
def tell(target, patience):
    def tell(body="It went wrong.", topic="rollback-7", **options):
        return open_issue(target, topic, "Rolled back", body, patience=patience, **options)

    return tell


def test_issue_is_opened_once_with_a_label(hub, tell):
    first, second = tell(), tell()
    (issue,) = hub.issues.values()
    assert (first.action, second.action) == ("opened", "unchanged")
    assert first.url == second.url == issue["html_url"]
    assert (issue["title"], [label["name"] for label in issue["labels"]]) == ("Rolled back", [LABEL])
    assert issue["body"].endswith("\nIt went wrong.")


def test_news_change_the_issue_that_is_there(hub, tell):
    tell()
    assert tell("It is worse.").action == "updated"
    assert [issue["body"].splitlines()[-1] for issue in hub.issues.values()] == ["It is worse."]


def test_topics_have_issues_of_their_own(hub, tell):
    tell(topic="rollback-7")
    tell(topic="rollback-8")
    assert len(hub.issues) == 2


def test_closed_issue_is_the_last_word_on_what_happened_once(hub, tell):
    tell()
    next(iter(hub.issues.values()))["state"] = "closed"
    assert tell("It is worse.").action == "unchanged"
    assert tell("Again.", again=True).action == "opened"


def test_issue_of_somebody_without_rights_is_not_taken_for_ours(hub, tell):
    hub.issue("copied", "<!-- switchback:rollback-7 -->\nnothing is wrong", login="mallory")
    assert tell().action == "opened"


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("fault", [BAD_GATEWAY, RESET])
def test_issue_is_opened_again_only_if_it_did_not_arrive(hub, tell, fault, arrives):
    hub.fail("POST", "/issues$", fault, arrives=arrives)
    tell()
    assert len(hub.issues) == 1


def test_token_without_the_right_is_one_clear_error(hub, tell):
    hub.permissions.clear()
    with pytest.raises(SwitchbackError, match="the token lacks `issues: write`"):
        tell()
