import pytest

from ci_tools.report import results
from ci_tools.report.comment import render
from ci_tools.report.links import Links
from ci_tools.report.lock import section
from ci_tools.report.results import Lock
from ci_tools.repro.compare import RUNGS
from ci_tools.walk import Lock as Found
from ci_tools.walk import Step, Walk, remember
from tests.report import cases

RUN = Links(artifacts="https://github.com/octo/model/actions/runs/17")
TAKE = "gh run download 17 --repo octo/model --name dvc-lock && git add dvc.lock && git commit"


def said(lock, links=RUN):
    return section(cases.passing().model_copy(update={"lock": lock}), links)[0]


def test_nothing_is_said_where_nobody_asked():
    assert said(None) == ""


def test_verified_lock_is_a_line():
    assert said(Lock(state="verified")).startswith("`dvc.lock` is verified")


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (Lock(state="absent"), "This commit has no `dvc.lock`."),
        (Lock(state="differs"), "could not be had, so where the trainings part is not known."),
        (Lock(state="differs", rung="none"), "equal bit by bit: another stage differs."),
        (Lock(state="differs", rung="fingerprint"), "First difference: fingerprint; another stack or machine"),
        (
            Lock(state="differs", rung="gradient", step=1200, layer="fc1"),
            "identical until step 1,200; first difference: gradient of `fc1`; batch and loss are equal",
        ),
    ],
)
def test_other_lock_is_told_with_the_first_difference_and_the_way_to_take_this_one(lock, words):
    assert words in said(lock)
    assert TAKE in said(lock)


@pytest.mark.parametrize(
    "url", ["", "https://ci.example.org/builds/17", "https://github.com/octo/model/actions/runs/x"]
)
def test_without_a_run_of_github_the_artifact_is_named(url):
    assert "gh run" not in said(Lock(state="absent"), Links(artifacts=url))
    assert "`dvc-lock`" in said(Lock(state="absent"), Links(artifacts=url))


def test_every_rung_of_compare_can_cross():
    for rung in RUNGS:
        assert Lock(state="differs", rung=rung).rung == rung


def test_walk_and_policy_reach_the_comment(run, monkeypatch, switchback):
    from tests.report.left import judge, verdict

    monkeypatch.chdir(run)
    judge(run, verdict(), base="main", policy="c0ffee")
    remember(Walk((Step("data", "ran", (), 1.0),), 1.0, Found("differs", "loss", 3)), run)
    assert switchback("report", "--link", f"artifacts={RUN.artifacts}")[0] == 0
    crossed = results.read(run / "report/results.json")
    assert (crossed.lock, crossed.policy) == (Lock(state="differs", rung="loss", step=3), "c0ffee")
    text = (run / "report/comment.md").read_text()
    assert TAKE in text
    assert "Judged by the policy of `c0ffee`." in text


def test_damaged_walk_is_one_line(run, monkeypatch, switchback):
    monkeypatch.chdir(run)
    remember(Walk((), 1.0, Found("differs", "nonsense")), run)
    code, _, err = switchback("report")
    assert (code, err.count("\n")) == (2, 1)
    assert "walk.json" in err


def test_loosened_policy_counts_once_it_is_merged():
    changed = next(make() for make in cases.CASES.values() if make().policy_changes)
    judged = changed.model_copy(update={"policy": "main"})
    assert "Judged by the policy of `main`. What is changed here counts once it is merged." in render(judged)
    assert "What judges this run is not what judges" in render(changed)
