"""How a release ended, for those who were not there: the merged pull request, the deployment, whoever is on call."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ci_tools.console import say
from ci_tools.errors import DataError, DependencyUnavailable, SwitchbackError
from ci_tools.harmless import one_line
from ci_tools.project import document
from ci_tools.release.api import words
from ci_tools.release.control import Phase, Release, Result
from ci_tools.release.judge import Decision
from ci_tools.report.github import (
    DeploymentState,
    Target,
    deployment,
    deployment_status,
    find_event,
    merged_as,
    merged_since,
    open_issue,
    publish_comment,
)
from ci_tools.report.markdown import code, link, prose, table

TOPIC = "release"
_SIGNS = {"success": "✅", "failure": "❌", "error": "⛔", "in_progress": "⏳"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What `switchback release --json` or `switchback rollback --json` wrote."""

    release: Release | None = None
    decision: Decision | None = None
    error: str = ""
    """Why nothing is known of a release."""
    unanswered: bool = False
    """Whether the service did not answer, so that there may be one that goes on."""

    @property
    def state(self) -> DeploymentState:
        """What GitHub calls it."""
        if self.release is None:
            return "error"
        if self.release.result is None:
            return "success" if self.release.phase is Phase.WATCHING else "in_progress"
        return "success" if self.release.result is Result.PROMOTED else "failure"

    @property
    def rolled_back(self) -> bool:
        """Whether somebody should look why."""
        return self.release is not None and self.release.result is Result.ROLLED_BACK

    @property
    def title(self) -> str:
        """A few words."""
        if self.release is None:
            return "Not known how it ended" if self.unanswered else "Not released"
        return words.about(self.release).title

    @property
    def sentence(self) -> str:
        """What happened, and why."""
        return words.about(self.release).sentence if self.release else self.error


@dataclass(frozen=True, kw_only=True)
class Announced:
    """Who was told."""

    pull_request: int | None
    deployment: int
    urls: dict[str, str] = field(default_factory=dict)
    """Of the comment and the issue, where there is one."""
    together: tuple[int, ...] = ()
    """Pull requests that were merged by the same push, and were told, too."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        told = {"pull_request": self.pull_request, "together": self.together, "deployment": self.deployment}
        return told | self.urls

    def __str__(self) -> str:
        lines = [f"deployment: {self.deployment}", *(f"{name}: {url}" for name, url in self.urls.items())]
        return "\n".join([*lines, *(f"told, too: #{number}" for number in self.together)])


def read(path: Path) -> Outcome:
    """Read what a release or an order of the service came to.

    Raises:
        DataError: missing, or neither.
    """
    fix = "write it by `switchback release … --json > FILE`"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if "error" in raw and isinstance(raw["error"], dict):
            unanswered = raw["error"].get("exit_code") == DependencyUnavailable.exit_code
            return Outcome(error=str(raw["error"]["message"]), unanswered=unanswered)
        told = raw.get("status") or raw
        decision = told.get("decision")
        return Outcome(
            release=Release.model_validate_json(json.dumps(told["release"])),
            decision=Decision.model_validate_json(json.dumps(decision)) if decision else None,
        )
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix=fix) from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, ValidationError) as error:
        raise DataError(f"is no outcome of a release ({type(error).__name__})", where=path, fix=fix) from None


def announce(
    outcome: Outcome, target: Target, sha: str, environment: str, run_url: str = "", before: str = ""
) -> Announced:
    """Say how the deployment of `sha` fares, open an issue on a rollback, comment on the pull request merged as `sha`.

    Those that were merged together with it are told last. A locked conversation keeps it from nobody else. Told again,
    nobody hears it twice.

    Args:
        outcome: what is told.
        target: where.
        sha: that was released.
        environment: of the deployment.
        run_url: of the workflow's run.
        before: commit of the branch before the push that brought `sha`; empty where that is not known.

    Raises:
        SwitchbackError: the token may not, or a conversation is locked.
        DependencyUnavailable: GitHub is out of reach.
    """
    made = deployment(target, sha, environment)
    told = f"{outcome.title}. {outcome.sentence}"
    deployment_status(target, made, outcome.state, told, log_url=run_url or None)
    number, text = merged_as(target, sha), comment(outcome, run_url)
    urls: dict[str, str] = {}
    if outcome.rolled_back and outcome.release:
        merged = f"\n\nMerged by #{number}." if number else ""
        bundle = words.short(outcome.release.bundle)
        title = f"The release of bundle {bundle} was rolled back"
        body = f"{text}{merged} Commit {sha}.\n\n{_what_now()}\n"
        urls["issue"] = open_issue(target, _topic(outcome.release), title, body).url
    refused: list[SwitchbackError] = []
    if number is None:
        say(f"commit {sha[:12]} came by no pull request: no comment")
    else:
        urls["comment"] = _commented(target, number, text, refused)
    merged_too = merged_since(target, before, sha) if before else ()
    together = tuple(other for other in merged_too if other != number)
    for other in together:
        _commented(target, other, f"{text}\n{_together(number)}\n", refused)
    if refused:
        raise refused[0]
    return Announced(pull_request=number, deployment=made, urls=urls, together=together)


def _commented(target: Target, number: int, text: str, refused: list[SwitchbackError]) -> str:
    """The comment's address; empty where the pull request takes no comment, of which `refused` then tells."""
    try:
        return publish_comment(text, replace(target, pull_request=number), topic=TOPIC).url
    except DependencyUnavailable:
        raise
    except SwitchbackError as error:
        refused.append(error)
        return ""


def pushed_from(sha: str) -> str:
    """The commit that the branch was at before a push brought `sha`; empty where no push did, or none is known."""
    event = find_event() if os.environ.get("GITHUB_EVENT_PATH") else None
    return event.before if event and event.kind == "push" and event.head.sha == sha else ""


def comment(outcome: Outcome, run_url: str = "") -> str:
    """What the pull request is told, as Markdown."""
    parts = [f"## {_SIGNS[outcome.state]} Release: {outcome.title.lower()}", prose(outcome.sentence)]
    if release := outcome.release:
        told = {
            "bundle": words.short(release.bundle),
            "champion before": words.short(release.champion),
            "began": release.started,
        }
        facts = [(name, code(one_line(value, 60))) for name, value in told.items()]
        facts.append(("took", words.duration(release.seconds)))
        parts.append(table(("", ""), facts))
    if outcome.unanswered:
        parts.append("If it began, it goes on without this job: *Re-run failed jobs* joins it and tells its end.")
    if outcome.decision and outcome.decision.verdicts:
        rows = [(code(one.metric), one.outcome.value, prose(one.sentence)) for one in outcome.decision.verdicts]
        parts.append(table(("metric", "outcome", "evidence"), rows))
    if run_url:
        parts.append(link("The workflow's run", run_url))
    return "\n\n".join(parts) + "\n"


def _what_now() -> str:
    return (
        "All traffic is on the champion; nothing has to be done at once. `switchback status` shows what the service "
        f"saw, its ledger who decided what and when, and {document('docs/runbooks.md')} what to look at first. Revert "
        "the merge, or mend what the evidence names: the next merge is the next release."
    )


def _together(number: int | None) -> str:
    """What those hear of whom the last commit is not."""
    whom = f"#{number}" if number else "the last commit of this push"
    return f"Released together with {whom}, where everything is told that comes later, a rollback for instance."


def _topic(release: Release) -> str:
    words_only = "".join(c if c.isascii() and c.isalnum() else "-" for c in release.id.lower())
    return "-".join(["rollback", *filter(None, words_only.split("-"))])
