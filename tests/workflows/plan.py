"""Which jobs an event starts, and what each of them could reach: runners, permissions, secrets, somebody's code."""

from dataclasses import dataclass, field
from enum import Enum

from tests.workflows.events import Code, Event
from tests.workflows.files import Workflow, inputs_of, needs_of
from tests.workflows.reach import (
    RANK,
    code_of,
    handed,
    is_checkout,
    labels,
    permissions,
    secrets_in,
    steps_that_may_run,
    texts_that_may_run,
)
from tests.workflows.worlds import Worlds

REVIEWED = frozenset({"fork-gpu"})
"""Environments whose jobs wait until a reviewer lets them run; a repository's settings say so, no file does."""
HOSTED = ("ubuntu-", "windows-", "macos-")
COMMIT = "d4" * 20
"""That a person names when he starts a workflow: it may be anybody's."""


class State(Enum):
    RUNS = "runs"
    GUARDED = "waits"
    SKIPPED = "-"


@dataclass(frozen=True)
class Planned:
    """A job of a workflow that an event started."""

    file: str
    """Of the workflow that the event started."""
    job: str
    """Its name; behind that of the calling job, where it is a called workflow's."""
    event: Event
    state: State
    outcomes: frozenset
    called: bool = False
    """Whether it calls a workflow: it has no steps of its own then."""
    runners: frozenset = frozenset()
    """Labels that it may ask for."""
    environments: frozenset = frozenset()
    permissions: dict = field(default_factory=dict)
    secrets: frozenset = frozenset()
    steps: tuple = ()
    code: Code = Code.NONE
    """The least trusted that it may check out."""

    @property
    def own_runners(self):
        return sorted(label for label in self.runners if not label.startswith(HOSTED))

    @property
    def writes(self):
        return sorted(f"{name}: write" for name, level in self.permissions.items() if level == "write")

    def uses(self, *prefixes):
        """The steps that use one of these actions."""
        return [step for step in self.steps if step.uses.partition("@")[0].startswith(prefixes)]


@dataclass(frozen=True)
class Call:
    """As what a workflow is started: by an event, or by a job of another one."""

    file: str
    """Of the workflow that the event started."""
    workflow: Workflow
    event: Event
    inputs: dict
    """Each value that an input may have."""
    prefix: str = ""
    secrets: dict | None = None
    """What the caller hands over, the repository's secrets by the name that the called one uses; None: every one."""
    permissions: dict | None = None
    """Of the calling job."""
    state: State = State.RUNS


def plan(files, workflow, event):
    """Every job that the event may start, in the order of the file."""
    declared = workflow.on.get("workflow_dispatch", {}).get("inputs") or {}
    inputs = {name: _choices(one or {}) for name, one in declared.items()} if event.kind == "workflow_dispatch" else {}
    return _planned(files, Call(workflow.file, workflow, event, inputs))


def _choices(declared):
    if declared.get("type") == "boolean":
        return (True, False)
    return tuple(dict.fromkeys((declared.get("default", ""), *declared.get("options", []), COMMIT)))


def _planned(files, call):
    done = {}

    def visit(name):
        if name not in done:
            for need in needs_of(call.workflow.jobs[name]):
                visit(need)
            done[name] = _jobs(files, call, name, done)

    for name in call.workflow.jobs:
        visit(name)
    return [job for jobs in done.values() for job in jobs]


def _jobs(files, call, name, done):
    """A job, and those of the workflow that it calls."""
    job = call.workflow.jobs[name]
    needs = {need: done[need][0] for need in needs_of(job)}
    worlds = _worlds(files, call, job, {need: one.outcomes for need, one in needs.items()})
    environments = _environments(worlds, job)
    state, outcomes = _state(files, call, job, needs, worlds)
    if state is State.RUNS and environments and environments <= REVIEWED:
        state = State.GUARDED
    common = {
        "file": call.file,
        "job": f"{call.prefix}{name}",
        "event": call.event,
        "state": state,
        "outcomes": outcomes,
        "environments": environments,
        "permissions": permissions(job, call.workflow, call.permissions),
    }
    if state is State.SKIPPED:
        return [Planned(**common, called="uses" in job)]
    if "uses" in job:
        inner = _called(files, call, job, worlds, common)
        if any(one.state is State.GUARDED for one in inner):
            common["state"] = State.GUARDED  # who needs it waits with it
        return [Planned(**common, called=True), *inner]
    steps = tuple(steps_that_may_run(files, worlds, job["steps"]))
    around = [call.workflow.tree.get("env"), {**job, "steps": []}]
    reached = secrets_in(worlds.language, [*around, *texts_that_may_run(files, worlds, job)])
    runners = {label for value in worlds.values(job["runs-on"]) for label in labels(value)}
    secrets = handed(reached, call.secrets) | (reached if environments else set())  # an environment has its own
    code = max((code_of(step, call.event) for step in steps if is_checkout(step)), key=RANK.index, default=Code.NONE)
    return [Planned(**common, runners=frozenset(runners), secrets=secrets, steps=steps, code=code)]


def _called(files, call, job, worlds, common):
    workflow = files.called(job["uses"])
    declared = workflow.on["workflow_call"].get("inputs")
    inputs = {name: tuple(worlds.values(value)) for name, value in inputs_of(declared, job.get("with")).items()}
    if job.get("secrets") == "inherit":
        secrets = call.secrets
    else:
        given = (job.get("secrets") or {}).items()
        secrets = {name: handed(secrets_in(worlds.language, value), call.secrets) for name, value in given}
    prefix = f"{common['job']} / "
    return _planned(
        files,
        Call(call.file, workflow, call.event, inputs, prefix, secrets, common["permissions"], common["state"]),
    )


def _worlds(files, call, job, outcomes):
    known = {"github": call.event.github, "runner": {"os": "Linux", "arch": "X64", "temp": "/tmp"}}
    unknown = {f"inputs.{name}": values for name, values in call.inputs.items()}
    unknown |= {f"needs.{need}.result": tuple(sorted(one)) for need, one in outcomes.items()}
    worlds = Worlds(files.language, known, unknown, _statuses(outcomes.values()))
    matrix = (job.get("strategy") or {}).get("matrix") or {}
    if not isinstance(matrix, dict):
        return worlds
    cells = {key: list(values) for key, values in matrix.items() if isinstance(values, list) and key != "include"}
    for one in matrix.get("include", []):
        for key, value in one.items():
            cells.setdefault(key, []).append(value)
    cells = {key: [one for value in values for one in worlds.values(value)] for key, values in cells.items()}
    return worlds.with_unknown({f"matrix.{key}": tuple(values) for key, values in cells.items()})


def _statuses(outcomes):
    """As which the needed jobs may have ended, all together."""
    found = []
    if all("success" in one for one in outcomes):
        found.append("success")
    found += [status for status in ("failure", "skipped") if any(status in one for one in outcomes)]
    return tuple(found)


def _state(files, call, job, needs, worlds):
    condition = job.get("if", "success()")
    if call.state is State.SKIPPED or not worlds.may(condition):
        return State.SKIPPED, frozenset({"skipped"})
    outcomes = {"success", "failure"}
    if not all(value not in (False, None, "", 0) for value in worlds.of(condition)):
        outcomes.add("skipped")
    # Nobody let those run that wait: they were refused, or their time ran out.
    refused = {n: {"failure"} if one.state is State.GUARDED else one.outcomes for n, one in needs.items()}
    freely = _worlds(files, call, job, refused).may(condition)
    return (State.RUNS if freely and call.state is State.RUNS else State.GUARDED), frozenset(outcomes)


def _environments(worlds, job):
    environment = job.get("environment")
    name = environment.get("name") if isinstance(environment, dict) else environment
    return frozenset(str(value) for value in worlds.values(name) if value) if environment else frozenset()
