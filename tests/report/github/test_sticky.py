import itertools

import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.report.github.sticky import LONGEST, Comment, Plan, marked, ours, plan

BOT = "github-actions[bot]"
TEXT = marked("**passed**", "report")


def comment(number, body=TEXT, author=BOT):
    return Comment(number, author, author.endswith("[bot]"), body)


def test_only_the_accounts_own_comments_count():
    mine, strangers, other_bot = comment(3), comment(1, author="mallory"), comment(2, author="other[bot]")
    assert ours([mine, strangers, other_bot], "report", BOT) == [mine]
    assert ours([mine, strangers, other_bot], "report", "Mallory") == [strangers]


def test_bots_count_where_the_account_is_unknown():
    mine, stranger, ghost = comment(3), comment(1, author="mallory"), comment(2, author="")
    assert ours([mine, stranger, ghost], "report", None) == [mine]


def test_marker_counts_only_at_the_start_and_of_its_own_topic():
    quoted = comment(1, f"> {TEXT}")
    release = comment(2, marked("**passed**", "release"))
    edited_in_the_browser = comment(3, f"\r\n{TEXT}")
    assert ours([quoted, release, edited_in_the_browser], "report", BOT) == [edited_in_the_browser]


def test_none_is_created_a_differing_one_edited_an_equal_one_left():
    assert plan([], TEXT, None) == Plan(None, edit=False, remove=())
    assert plan([comment(7, "old")], TEXT, None) == Plan(7, edit=True, remove=())
    assert plan([comment(7)], TEXT, None) == Plan(7, edit=False, remove=())


def test_line_ends_and_blanks_around_are_no_difference():
    assert not plan([comment(7, TEXT.replace("\n", "\r\n") + "\n")], TEXT, None).edit


def test_oldest_stays_and_all_others_go():
    found = ours([comment(9), comment(4), comment(6)], "report", BOT)
    assert plan(found, TEXT, None) == Plan(4, edit=False, remove=(6, 9))


def test_one_that_was_created_is_kept_even_if_it_cannot_be_found():
    assert plan([], TEXT, created=4) == Plan(4, edit=False, remove=())


def test_text_that_came_after_ones_own_creation_stands():
    assert plan([comment(4, "newer")], TEXT, created=4) == Plan(4, edit=False, remove=())


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("AABB"))))
def test_two_jobs_that_create_at_once_leave_the_older_comment_with_the_later_text(order):
    """After both created, each job takes two steps: it looks, then it does what follows from what it saw."""
    mine = {job: comment(number, marked(job, "report")) for job, number in (("A", 1), ("B", 2))}
    there = {made.id: made for made in mine.values()}
    plans = {}
    for job in order:
        if job not in plans:
            seen = {mine[job].id: mine[job]} | there
            plans[job] = plan(ours(seen.values(), "report", BOT), mine[job].body, mine[job].id)
            continue
        keep, edit, remove = plans[job]
        if edit:
            there[keep] = there[keep]._replace(body=mine[job].body)
        there = {number: made for number, made in there.items() if number not in remove}
    assert there == {1: mine["A"]._replace(body=mine["B"].body)}


def test_comment_longer_than_github_takes_is_refused():
    assert len(marked("x" * (LONGEST - len(marked("", "report"))), "report")) == LONGEST
    with pytest.raises(SwitchbackError, match=r"65,537 characters; GitHub takes 65,536"):
        marked("x" * (LONGEST + 1 - len(marked("", "report"))), "report")


@pytest.mark.parametrize("topic", ["", "a --> <b>", "Report", "a--b", "ü"])
def test_topic_cannot_end_the_hidden_comment(topic):
    with pytest.raises(ValueError, match="topic"):
        marked("", topic)
