"""The commands of `switchback` that workflows give, and people can: each tells GitHub something, or asks it."""

from pathlib import Path
from typing import Annotated

import typer

from ci_tools.actions import run_url
from ci_tools.cli_answer import AsJson, show
from ci_tools.console import machine_output, print_json

app = typer.Typer()


@app.command()
def announce(
    outcome: Annotated[Path, typer.Argument(metavar="FILE", help="What `switchback release --json` wrote.")],
    sha: Annotated[
        str, typer.Option(metavar="COMMIT", envvar="GITHUB_SHA", show_envvar=False, help="That was released.")
    ] = "",
    environment: Annotated[str, typer.Option(metavar="NAME", help="Of the deployment.")] = "production",
    as_json: AsJson = False,
) -> None:
    """Tell GitHub how a release ended.

    The merged pull request and those of its merge group get a comment, the deployment a status, and a rollback an
    issue. Told again, nobody hears it twice.
    """
    with machine_output(as_json):
        from ci_tools.report import outcome as outcomes
        from ci_tools.report.github import Target

        told, target, commit = outcomes.read(outcome), Target.from_environment(), _commit(sha)
        before = outcomes.pushed_from(commit)
        done = outcomes.announce(told, target, commit, environment, run_url(), before)
    show(done, as_json)


@app.command()
def alert(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What `gate --self-test --json` and `rehearse --json` wrote."),
    ],
    as_json: AsJson = False,
) -> None:
    """Open an issue about drills that a guard did not pass.

    There is one at a time; told again, it is brought up to date.
    """
    with machine_output(as_json):
        from ci_tools.report import drills
        from ci_tools.report.github import Target

        opened = drills.alert(files, Target.from_environment(), run_url())
    _told(opened.url, opened.action, as_json)


@app.command()
def propose(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Paths in the repository.")],
    source: Annotated[Path, typer.Option("--from", metavar="FOLDER", help="Where the new files lie.")] = Path(),
    branch: Annotated[str, typer.Option(help="That belongs to Switchback; it is overwritten.")] = "switchback/retrain",
    base: Annotated[
        str, typer.Option(metavar="BRANCH", envvar="GITHUB_REF_NAME", show_envvar=False, help="To merge into.")
    ] = "main",
    title: Annotated[str, typer.Option(help="Of the pull request.")] = "Retrained: the data drifted",
    as_json: AsJson = False,
) -> None:
    """Open a pull request with files that differ from HEAD.

    Its branch belongs to Switchback: an open one is brought up to date.
    """
    with machine_output(as_json):
        from ci_tools.report import proposed

        done = proposed.propose(files, source, branch, base, title)
    _told(done.url if done else "", done.action if done else "nothing differs from HEAD", as_json)


@app.command()
def approved(
    pull_request: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="Of the pull request.")],
    sha: Annotated[str, typer.Argument(metavar="COMMIT", help="That somebody has read, in full.")],
) -> None:
    """Refuse a commit that is not a pull request's head.

    Exit 0: it is the head of that open pull request, 2: not.
    """
    from ci_tools.report.github import Target, refuse_unless_head

    refuse_unless_head(Target.from_environment(pull_request), sha)
    typer.echo(f"pull request #{pull_request}: its head is {sha}")


@app.command()
def drift(
    ref: Annotated[str, typer.Option(metavar="REF", help="Git revision whose dvc.lock names the data.")] = "HEAD",
    as_json: AsJson = False,
) -> None:
    """Say whether data/ drifted since dvc.lock was made.

    Run `switchback reproduce data` first. Exit 0 in either case; in a workflow `drifted` becomes an output.
    """
    with machine_output(as_json):
        from ci_tools.drift import against_lock

        found = against_lock(ref)
    show(found, as_json)


def _commit(sha: str) -> str:
    import re

    from ci_tools.errors import ConfigError
    from ci_tools.report.github.event import SHA

    if not sha:
        raise ConfigError("is not given", where="--sha", fix="name the commit that was released, or set GITHUB_SHA")
    if not re.fullmatch(SHA, sha):
        rule = "deployments and merges are found by a commit's full id"
        raise ConfigError(f"{sha[:64]!r} is none", where="--sha", rule=rule, fix="give all of its 40 digits")
    return sha


def _told(url: str, action: str, as_json: bool) -> None:
    if as_json:
        print_json({"url": url, "action": action})
    else:
        typer.echo(f"{action}: {url}" if url else action)
