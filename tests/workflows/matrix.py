"""Which job runs for which event, and what it holds: `python -m tests.workflows.matrix` prints that as markdown."""

import sys
from pathlib import Path

from tests.workflows import language as languages
from tests.workflows import trust
from tests.workflows.events import Code
from tests.workflows.files import Files
from tests.workflows.plan import REVIEWED, State

ROOT = Path(__file__).parents[2]
EVENTS = (
    "fork's pull request",
    "pull request",
    "merge group",
    "push to main",
    "push to a branch",
    "schedule",
    "dispatch",
    "after a fork's run",
    "after another run",
)
AHEAD = (State.RUNS, State.GUARDED, State.SKIPPED)
NOTHING = "-"


def table(jobs):
    """Rows of text, the heading first: a job each, an event per column, then runner, permissions, secrets."""
    rows = [["job", *EVENTS, "runner", "permissions", "secrets"]]
    names = dict.fromkeys((job.file, job.job) for job in jobs if not job.called)
    for file, name in names:
        same = [job for job in jobs if (job.file, job.job) == (file, name)]
        reached = [job for job in same if job.state is not State.SKIPPED]
        if not reached:
            continue
        cells = [_state([job.state for job in same if _column(job.event) == event]) for event in EVENTS]
        runners = sorted({label for job in reached for label in job.runners})
        granted = sorted({f"{key}: {level}" for job in reached for key, level in job.permissions.items()})
        secrets = sorted({secret for job in reached for secret in job.secrets})
        rows.append([f"{file}: {name}", *cells, *(", ".join(one) or NOTHING for one in (runners, granted, secrets))])
    return rows


def markdown(rows):
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    note = f"`{State.GUARDED.value}`: for a reviewer of the environment {', '.join(sorted(REVIEWED))}."
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body, "", note])


def _column(event):
    if event.kind == "workflow_run":
        return EVENTS[-2] if event.about is Code.FORK else EVENTS[-1]
    return event.label


def _state(states):
    return next((state.value for state in AHEAD if state in states), NOTHING)


def main():
    if why_not := languages.why_not():
        sys.exit(f"error: workflows are not read as GitHub does: {why_not}. Fix: install node and npm")
    with languages.asked() as language:
        sys.stdout.write(markdown(table(trust.planned(Files(ROOT, language)))) + "\n")


if __name__ == "__main__":
    main()
