"""`switchback report`: the files of a run in, what people read out. Or, in a job that people trust, results.json in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ci_tools.console import say
from ci_tools.errors import DataError, DependencyUnavailable, SwitchbackError, explain
from ci_tools.files import write_atomic
from ci_tools.gates import files as gates
from ci_tools.gates.files import VERDICTS, Verdicts
from ci_tools.gates.run import open_run
from ci_tools.report import build, comment, files, results, summary
from ci_tools.report.files import COMMENT, FOLDER, PAGE, RESULTS
from ci_tools.report.links import Links
from ci_tools.report.results import Results

if TYPE_CHECKING:
    from ci_tools.report.github import Event

_STATES: Mapping[int, Literal["success", "failure", "error"]] = {0: "success", 1: "failure", 2: "error", 3: "failure"}
"""Of a commit status, by exit code."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    results: Results
    comment: Path
    page: Path | None
    """None where only results.json was there to render from."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "results": self.results.model_dump(mode="json"),
            "exit_code": self.results.exit_code,
            "comment": str(self.comment),
            "page": str(self.page) if self.page else None,
        }


def write(links: Links | None = None, root: Path = Path()) -> Report:
    """Write report/ from the run under `root`; in GitHub Actions also the step summary, and annotations to stderr.

    Raises:
        DataError: gates/verdicts.json, or a file that the page shows, is missing or damaged.
        RecordError: a run record is missing or damaged.
        SwitchbackError: the disk refused a write.
        ModuleNotFoundError: what draws the page is not installed; everything else is written.
    """
    files.remove(root)
    verdicts = gates.read(root / gates.FOLDER / VERDICTS)
    found = results.write(build.build(root), root / FOLDER / RESULTS)
    text = _write_comment(found, links, root)
    _tell_actions(text, verdicts, root)
    from ci_tools.report import html

    page = root / FOLDER / PAGE
    html.write(open_run(build.seeds_of(root), root), verdicts, page)
    return Report(found, root / FOLDER / COMMENT, page)


def render(source: Path, links: Links | None = None, public: bool = False, post: bool = False) -> Report:
    """Write report/comment.md from a results.json alone, as a job does that never sees the pull request's files.

    In GitHub Actions, and always where it is to be made `public`, the pull request that it names must be the one that
    the run was for. Where it is to become a comment (`post`) and cannot, the comment says so: the one that is there
    speaks of an older commit.

    Raises:
        ConfigError: it is to be made public, and no event file says what the run was for.
        DataError: it breaks a rule of its schema, or claims another pull request than it may.
        DependencyUnavailable: GitHub was asked for the pull request and out of reach.
    """
    try:
        found = results.read(source)
        if public or os.environ.get("GITHUB_EVENT_PATH"):
            found = found.model_copy(update={"pull_request": _accepted(found)})
    except DependencyUnavailable:
        raise
    except SwitchbackError:  # GitHub's word on a pull request that there is not, among others
        if post:
            _tell_of_nothing(links)
        raise
    text = _write_comment(found, links, Path())
    _add_to_summary(text)
    return Report(found, FOLDER / COMMENT, None)


def publish(report: Report, post: bool = True, status: bool = False) -> str:
    """Put the comment on its pull request, and with `status` the outcome beside the commit.

    Returns:
        The comment's address; empty for a run of no pull request, of a merge group for instance.

    Raises:
        ConfigError: GitHub's environment is not there, so that nobody knows whether there is a pull request.
        SwitchbackError: the token may not, or the conversation is locked.
        DependencyUnavailable: GitHub is out of reach.
    """
    from ci_tools.report.github import Target, commit_status, find_event, publish_comment

    found = report.results
    target = Target.from_environment(found.pull_request)
    url = ""
    if post and target.pull_request is None:
        find_event()  # without GitHub's word, none is an error
        say("no pull request: nothing to comment on")
    elif post:
        published = publish_comment(report.comment.read_text(encoding="utf-8"), target)
        say(f"comment {published.action}: {published.url}")
        url = published.url
    if status:
        state, words = _STATES[found.exit_code], str(comment.answered(found))
        commit_status(target=target, sha=found.head_sha, state=state, description=words, url=url or None)
    return url


def show(page: Path) -> None:
    """Open the page in a browser.

    Raises:
        DependencyUnavailable: there is none.
    """
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        raise DependencyUnavailable("no browser was found", where=page, fix="open the file yourself")


def _accepted(found: Results) -> int | None:
    """The pull request that the results may be told on, by their own claim or else by GitHub's word; None for none.

    Raises:
        DataError: they are not those of the run, or of that pull request.
        SwitchbackError: there is no such pull request.
    """
    from ci_tools.report.github import check_claim, read_event

    event = read_event()
    number = _pull_request(event) if found.pull_request is None else found.pull_request
    if event.kind == "workflow_dispatch":
        _accept_approved(found, event)
    elif number is not None:
        check_claim(found.head_sha, number, run=event.head)
    elif found.head_sha != event.head.sha:
        rule = "results are told of the run that made them only"
        raise DataError(f"claims commit {found.head_sha[:12]!r}, the run was of {event.head.sha[:12]}", rule=rule)
    return number


def _accept_approved(found: Results, event: "Event") -> None:
    """The commit and the pull request are those that a maintainer named, and still belong together.

    Raises:
        DataError: they are others, or somebody pushed meanwhile.
    """
    from ci_tools.report.github import Target, refuse_unless_head

    if (found.head_sha, found.pull_request) != (event.head.sha, event.pull_request):
        rule = "results are told of what was approved only"
        raise DataError(f"claims commit {found.head_sha[:12]!r} of another run", where="results", rule=rule)
    refuse_unless_head(Target.from_environment(event.pull_request), event.head.sha)


def _tell_of_nothing(links: Links | None) -> None:
    """To the pull request that GitHub names for the run.

    Raises:
        DataError: the pull request moved on.
    """
    from ci_tools.report import github

    event = github.read_event()
    number = _pull_request(event)
    if number is None:
        return
    target = github.Target.from_environment(number)
    if event.kind == "workflow_dispatch":
        github.refuse_unless_head(target, event.head.sha)
    else:
        github.check_claim(event.head.sha, number, run=event.head)
    github.publish_comment(comment.nothing(event.head.sha, links or Links()), target)


def _pull_request(event: "Event") -> int | None:
    """GitHub's word on whose run it was: what the event names, or of a fork's run, what has its commit as head."""
    from ci_tools.report.github import pull_request_of

    if event.pull_request is None and event.kind == "workflow_run":
        return pull_request_of(event.head)
    return event.pull_request


def _write_comment(found: Results, links: Links | None, root: Path) -> str:
    text = comment.render(found, links)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(root / FOLDER / COMMENT, text)
    return text


def _add_to_summary(text: str) -> None:
    """To the job's summary, where there is one; a file that cannot be written costs that summary and nothing else."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            summary.append(text, Path(path))
        except OSError as error:
            say(f"warning: the job's summary was not written: {explain(error)}")


def _tell_actions(text: str, verdicts: Verdicts, root: Path) -> None:
    _add_to_summary(summary.render(text, verdicts))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads both streams, and stdout may have to be one JSON object.
        os.write(2, summary.commands(summary.annotations(verdicts, root)).encode(errors="replace"))
