import json
import webbrowser

import pytest

from ci_tools.errors import DataError, SwitchbackError
from ci_tools.gates import Outcome, files
from ci_tools.report import command, results
from ci_tools.report.github import Published
from ci_tools.walk import Walk
from tests.report import cases
from tests.report.left import failed, judge, store, verdict

SHA = "0b2aeb641987471239cdaf773e6ad5550e46796a"
NOTHING = "## ⛔ Do not merge: nothing was judged"


@pytest.fixture
def here(run, monkeypatch):
    monkeypatch.chdir(run)
    return run


@pytest.fixture
def event(tmp_path, monkeypatch):
    """GitHub's own word on the run, and what is asked of GitHub."""
    repository = {"full_name": "team/risk"}
    run = {"head_sha": SHA, "head_branch": "b", "head_repository": repository, "pull_requests": []}
    store(tmp_path / "event.json", {"repository": repository, "workflow_run": run})
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/risk")
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    asked = []
    monkeypatch.setattr("ci_tools.report.github.check_claim", lambda *a, **k: asked.append(("claim", *a)))
    monkeypatch.setattr("ci_tools.report.github.pull_request_of", lambda _: None)
    published = Published("https://github.example/c/1", "created", 0)
    monkeypatch.setattr(
        "ci_tools.report.github.publish_comment", lambda body, to: asked.append(("comment", body, to)) or published
    )
    monkeypatch.setattr("ci_tools.report.github.commit_status", lambda **k: asked.append(("status", k)))
    return asked


@pytest.fixture
def crossed(tmp_path, monkeypatch):
    """A results.json that came from another job, and nothing else."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "downloaded/results.json"
    results.write(cases.failing(), path)
    return path


def test_report_writes_results_comment_and_page(here, switchback):
    code, out, err = switchback("report")
    assert (code, out) == (0, "report: report/index.html\n"), err
    assert sorted(path.name for path in (here / "report").iterdir()) == ["comment.md", "index.html", "results.json"]
    assert (here / "report/comment.md").read_text().startswith("## ✅ You can merge")
    assert results.read(here / "report/results.json").verdicts[0].gate == "divergence"


def test_report_of_failures_succeeds_and_its_json_tells_their_exit_code(here, switchback):
    judge(here, verdict(outcome=Outcome.FAILED))
    code, out, _ = switchback("report", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["page"]) == (0, 1, "report/index.html")
    assert told["results"]["verdicts"][0]["outcome"] == "failed"


def test_report_without_verdicts_is_one_line(here, switchback):
    (here / "gates/verdicts.json").unlink()
    code, out, err = switchback("report")
    assert (code, out) == (2, "")
    assert err == "error: gates/verdicts.json: no such file. Fix: run `switchback gate`\n"


def test_report_of_an_earlier_run_does_not_outlive_a_refused_one(here, switchback):
    assert switchback("report")[0] == 0
    (here / "gates/verdicts.json").unlink()
    assert switchback("report")[0] == 2
    assert list((here / "report").iterdir()) == []


def left(here):
    return sorted(path.name for path in (here / "report").iterdir())


def test_new_verdicts_take_the_report_on_older_ones_away(here, switchback, monkeypatch):
    assert switchback("report")[0] == 0
    store(here / "report/wandb.json", {})
    monkeypatch.setattr("ci_tools.gates.suite.judge", lambda *_: files.read(here / "gates/verdicts.json"))
    assert switchback("gate")[0] == 0
    assert left(here) == ["wandb.json"]
    assert switchback("report")[0] == 0
    assert switchback("gate", "--self-test")[0] == 0
    assert left(here) == ["comment.md", "index.html", "results.json", "wandb.json"]


def test_run_that_is_interrupted_leaves_no_report_of_an_earlier_one(here, switchback, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    assert switchback("report")[0] == 0
    monkeypatch.setattr("ci_tools.pipeline.reproduce", interrupted)
    assert switchback("run")[0] == 130
    assert left(here) == []


def test_links_reach_the_comment(here, switchback):
    assert switchback("report", "--link", "artifacts=https://a.example/1")[0] == 0
    assert "[artifacts](<https://a.example/1>)" in (here / "report/comment.md").read_text()
    assert switchback("report", "--link", "artifacts=javascript:1")[0] == 2


def test_page_opens_in_a_browser(here, switchback, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert switchback("report", "--open")[0] == 0
    assert opened == [(here / "report/index.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    code, _, err = switchback("report", "--open")
    assert code == 4
    assert "no browser" in err


def test_there_is_no_page_to_open_where_only_results_crossed(crossed, switchback):
    code, _, err = switchback("report", "--from", str(crossed), "--open")
    assert code == 2
    assert "no page to open" in err


def test_actions_get_a_summary_and_annotations_and_json_stays_whole(here, switchback, monkeypatch, tmp_path):
    judge(here, verdict(outcome=Outcome.FAILED, diagnosis="it rose"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = switchback("report", "--json")
    assert code == 0
    assert json.loads(out)["exit_code"] == 1
    assert "::error title=divergence failed::it rose" in err
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("## ❌ Do not merge")
    assert "it rose" in text


def test_without_actions_nothing_is_annotated(here, switchback):
    judge(here, verdict(outcome=Outcome.FAILED))
    _, out, err = switchback("report")
    assert "::" not in out + err


def test_missing_package_for_the_page_costs_the_page_only(here, switchback, monkeypatch):
    def lacking(*_):
        raise ModuleNotFoundError("No module", name="jinja2")

    monkeypatch.setattr("ci_tools.report.html.write", lacking)
    code, _, err = switchback("report")
    assert code == 4
    assert "pip install 'switchback-ci[report]'" in err
    assert (here / "report/comment.md").exists()


def test_results_alone_become_the_comment(crossed, switchback, monkeypatch):
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    code, out, _ = switchback("report", "--from", str(crossed))
    assert (code, out) == (0, "report: report/comment.md\n")
    assert (crossed.parents[1] / "report/comment.md").read_text() == cases.comment("failing").replace(
        next(line for line in cases.comment("failing").splitlines() if line.startswith("**More")) + "\n\n", ""
    )
    assert not (crossed.parents[1] / "report/index.html").exists()


@pytest.mark.parametrize(
    "text", ["{", "x" * 300_000, '{"schema_version": 1, "html": "<b>"}', '{"schema_version": NaN}']
)
def test_foreign_results_are_one_line_and_leave_no_comment(crossed, switchback, event, text):
    crossed.write_text(text)
    code, _, err = switchback("report", "--from", str(crossed), "--post")
    assert code == 2
    assert err.count("\n") == 1
    assert not (crossed.parents[1] / "report").exists()
    assert event == []


@pytest.mark.parametrize("left", ["missing", "no JSON"])
def test_run_without_results_takes_the_comment_on_an_older_commit_away(crossed, switchback, event, tmp_path, left):
    started = json.loads((tmp_path / "event.json").read_text())
    started["workflow_run"]["pull_requests"] = [{"number": 42}]
    store(tmp_path / "event.json", started)
    crossed.unlink() if left == "missing" else crossed.write_text(left)
    run = "https://github.com/team/risk/actions/runs/7"
    code, _, err = switchback("report", "--from", str(crossed), "--post", "--link", f"artifacts={run}")
    assert (code, err.startswith(f"error: {crossed}: ")) == (2, True)
    (claim, (kind, body, target)) = event
    assert (claim, kind, target.pull_request) == (("claim", SHA, 42), "comment", 42)
    assert body.startswith("## ⛔ Do not merge: nothing was judged")
    assert SHA[:12] in body
    assert run in body


def test_forks_run_without_results_takes_the_comment_on_an_older_commit_away(crossed, switchback, event, monkeypatch):
    monkeypatch.setattr("ci_tools.report.github.pull_request_of", lambda head: 42 if head.sha == SHA else None)
    crossed.unlink()
    assert switchback("report", "--from", str(crossed), "--post")[0] == 2
    (claim, (kind, body, target)) = event
    assert (claim, kind, target.pull_request) == (("claim", SHA, 42), "comment", 42)
    assert body.startswith("## ⛔ Do not merge: nothing was judged")


@pytest.mark.parametrize("refusal", [DataError("its head is another"), SwitchbackError("no such pull request")])
def test_claim_of_another_pull_request_takes_the_comment_on_an_older_commit_away(
    crossed, switchback, event, monkeypatch, refusal
):
    """A fork must not keep the comment on its better commit by the results of its worse one."""

    def check(sha, number, **_):
        if number != 7:
            raise refusal

    monkeypatch.setattr("ci_tools.report.github.check_claim", check)
    monkeypatch.setattr("ci_tools.report.github.pull_request_of", lambda head: 7 if head.sha == SHA else None)
    code, _, err = switchback("report", "--from", str(crossed), "--post")
    assert (code, str(refusal) in err) == (2, True)
    assert [(body[: len(NOTHING)], to.pull_request) for _, body, to in event] == [(NOTHING, 7)]


def test_claim_of_no_pull_request_is_told_on_the_one_that_has_the_forks_head(crossed, switchback, event, monkeypatch):
    monkeypatch.setattr("ci_tools.report.github.pull_request_of", lambda head: 7 if head.sha == SHA else None)
    results.write(cases.failing().model_copy(update={"pull_request": None}), crossed)
    assert switchback("report", "--from", str(crossed), "--post")[0] == 0
    assert (event[0], event[1][2].pull_request) == (("claim", SHA, 7), 7)


def test_run_without_results_says_nothing_on_a_pull_request_that_moved_on(
    crossed, switchback, event, tmp_path, monkeypatch
):
    started = json.loads((tmp_path / "event.json").read_text())
    started["workflow_run"]["pull_requests"] = [{"number": 42}]
    store(tmp_path / "event.json", started)
    crossed.unlink()

    def refuse(*_, **__):
        raise DataError("its head is another", where="pull request #42")

    monkeypatch.setattr("ci_tools.report.github.check_claim", refuse)
    assert switchback("report", "--from", str(crossed), "--post")[0] == 2
    assert event == []


def test_claimed_pull_request_is_checked_before_anything_is_written(crossed, switchback, event, monkeypatch):
    def refuse(*_, **__):
        raise DataError("its head is another", where="pull request #42")

    monkeypatch.setattr("ci_tools.report.github.check_claim", refuse)
    code, _, err = switchback("report", "--from", str(crossed), "--post")
    assert code == 2
    assert "its head is another" in err
    assert not (crossed.parents[1] / "report").exists()
    assert event == []


def test_checked_results_are_posted_with_their_status(crossed, switchback, event):
    code, out, err = switchback("report", "--from", str(crossed), "--post", "--status", "--json")
    assert code == 0, err
    assert json.loads(out)["url"] == "https://github.example/c/1"
    claim, comment, status = event
    assert claim == ("claim", SHA, 42)
    assert comment[1] == (crossed.parents[1] / "report/comment.md").read_text()
    assert (comment[2].repository, comment[2].pull_request) == ("team/risk", 42)
    said = {"state": "failure", "sha": SHA, "description": "❌ Do not merge: 5 verdicts stop it"}
    assert status == ("status", said | {"target": comment[2], "url": "https://github.example/c/1"})


def test_status_alone_posts_no_comment(crossed, switchback, event):
    assert switchback("report", "--from", str(crossed), "--status")[0] == 0
    assert [asked[0] for asked in event] == ["claim", "status"]


def test_run_of_no_pull_request_has_nowhere_to_comment(crossed, switchback, event):
    results.write(cases.failing().model_copy(update={"pull_request": None}), crossed)
    code, _, err = switchback("report", "--from", str(crossed), "--post")
    assert code == 0
    assert "no pull request: nothing to comment on" in err
    assert event == []


def test_claim_of_no_pull_request_is_told_on_the_one_that_github_names(crossed, switchback, event, tmp_path):
    started = json.loads((tmp_path / "event.json").read_text())
    started["workflow_run"]["pull_requests"] = [{"number": 42}]
    store(tmp_path / "event.json", started)
    results.write(cases.failing().model_copy(update={"pull_request": None}), crossed)
    code, _, err = switchback("report", "--from", str(crossed), "--post", "--status")
    assert code == 0, err
    claim, comment, status = event
    assert claim == ("claim", SHA, 42)
    assert comment[2].pull_request == status[1]["target"].pull_request == 42


def test_run_of_a_schedule_has_nowhere_to_comment(here, switchback, event, tmp_path):
    store(tmp_path / "event.json", {"repository": {"full_name": "team/risk"}, "schedule": "0 3 * * *"})
    code, _, err = switchback("report", "--post")
    assert code == 0, err
    assert "no pull request: nothing to comment on" in err
    assert event == []


@pytest.mark.parametrize("text", ['{"repository": 1}', "{", None])
@pytest.mark.parametrize("options", [[], ["--post"]])
def test_damaged_event_is_an_error_and_not_a_run_of_no_pull_request(here, switchback, event, tmp_path, text, options):
    (tmp_path / "event.json").unlink() if text is None else (tmp_path / "event.json").write_text(text)
    code, _, err = switchback("report", *options)
    assert code == 2
    assert "event.json: " in err
    assert event == []


def test_posting_without_an_event_is_an_error_and_not_a_run_of_no_pull_request(here, switchback, event, monkeypatch):
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    code, _, err = switchback("report", "--post")
    assert code == 2
    assert "GITHUB_EVENT_PATH is not set" in err
    assert event == []


def test_summary_that_cannot_be_written_costs_itself_only(here, crossed, switchback, event, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/nonexistent/summary.md")
    for options in ([], ["--from", str(crossed), "--post"]):
        code, _, err = switchback("report", *options)
        assert code == 0, err
        assert "warning: the job's summary was not written: /nonexistent/summary.md: No such file" in err
    assert [asked[0] for asked in event] == ["claim", "comment"]


@pytest.fixture
def judged_run(here, monkeypatch):
    """A pipeline that is up to date, and gates of which one fails."""

    def judging(_):
        judge(here, failed())
        return files.read(here / "gates/verdicts.json")

    (here / "tests/model").mkdir(parents=True)
    monkeypatch.setattr("ci_tools.pipeline.reproduce", lambda **_: Walk((), 0.0))
    monkeypatch.setattr("ci_tools.gates.suite.judge", judging)
    return here


def test_run_ends_with_the_exit_code_of_the_verdicts_where_no_report_can_be_written(judged_run, switchback):
    (judged_run / "report").write_text("a file")
    code, out, err = switchback("run")
    assert code == 1, err
    assert "the report is not whole: report: File exists" in err
    assert "report:" not in out


def test_run_ends_with_the_exit_code_of_the_verdicts_where_no_summary_can_be_written(
    judged_run, switchback, monkeypatch
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/nonexistent/summary.md")
    code, out, err = switchback("run")
    assert code == 1, err
    assert out.endswith("Do not merge: 1 verdict stops it\nreport: report/index.html\n")


def test_results_of_another_commit_than_the_run_are_refused(crossed, event):
    results.write(cases.failing().model_copy(update={"pull_request": None, "head_sha": "f" * 40}), crossed)
    with pytest.raises(DataError, match="claims commit"):
        command.render(crossed)


def test_posting_outside_of_actions_says_what_is_missing(here, switchback, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    code, _, err = switchback("report", "--post")
    assert code == 2
    assert "GITHUB_REPOSITORY is not set" in err


def test_results_are_never_posted_unchecked(crossed, switchback, monkeypatch):
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/risk")
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    code, _, err = switchback("report", "--from", str(crossed), "--post")
    assert code == 2
    assert "GITHUB_EVENT_PATH is not set" in err
    assert not (crossed.parents[1] / "report").exists()


class TestApprovedFork:
    """A maintainer named commit and pull request; the results must be theirs."""

    @pytest.fixture
    def dispatched(self, event, tmp_path, monkeypatch):
        inputs = {"sha": SHA, "pull_request": "42"}
        store(tmp_path / "event.json", {"repository": {"full_name": "team/risk"}, "inputs": inputs})
        monkeypatch.setattr(
            "ci_tools.report.github.refuse_unless_head", lambda to, sha: event.append(("head", to.number, sha))
        )
        return event

    def claim(self, path, **changes):
        claimed = cases.failing().model_copy(update={"head_sha": SHA, "pull_request": 42} | changes)
        results.write(claimed, path)
        return str(path)

    def test_results_are_told_on_the_pull_request_if_that_is_still_its_head(self, dispatched, crossed, switchback):
        code, _, err = switchback("report", "--from", self.claim(crossed), "--post")
        assert code == 0, err
        assert [asked[0] for asked in dispatched] == ["head", "comment"]
        assert dispatched[0] == ("head", 42, SHA)

    @pytest.mark.parametrize("changes", [{"head_sha": "c0" * 20}, {"pull_request": 43}, {"pull_request": None}])
    def test_other_results_are_refused(self, dispatched, crossed, switchback, changes):
        code, _, err = switchback("report", "--from", self.claim(crossed, **changes), "--post")
        assert (code, dispatched[0]) == (2, ("head", 42, SHA))
        assert [(body[: len(NOTHING)], to.pull_request) for _, body, to in dispatched[1:]] == [(NOTHING, 42)]
        assert "results are told of what was approved only" in err
