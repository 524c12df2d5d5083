"""Which jobs an event starts, and what each of them could reach: runners, permissions, secrets, somebody's code."""

from dataclasses import dataclass, field
from enum import Enum

from tests.workflows.events import FORK, MAIN, TIP, Code, Event
from tests.workflows.files import HERE, Workflow, inputs_of, needs_of, steps_of
from tests.workflows.language import expression_of
from tests.workflows.worlds import Worlds

REVIEWED = frozenset({"fork-gpu"})
"""Environments whose jobs wait until a reviewer lets them run; a repository's settings say so, no file does."""
HOSTED = ("ubuntu-", "windows-", "macos-")
COMMIT = "d4" * 20
"""That a person names when he starts a workflow: it may be anybody's."""
EVERY_SECRET = "*"


class State(Enum):
    RUNS = "runs"
    GUARDED = "waits"
    SKIPPED = "-"


@dataclass(frozen=True)
class Step:
    """One that may run, those of composite actions included."""

    run: str | None
    uses: str
    given: dict
    """Each value that an input may have."""


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
    steps = tuple(_steps(files, worlds, job["steps"]))
    around = [call.workflow.tree.get("env"), {**job, "steps": []}]
    reached = _secrets(worlds.language, [*around, *_written(files, worlds, job)])
    runners = {label for value in worlds.values(job["runs-on"]) for label in _labels(value)}
    code = max((_code(step, call.event) for step in steps if _is_checkout(step)), key=_RANK.index, default=Code.NONE)
    return [
        Planned(**common, runners=frozenset(runners), secrets=_handed(reached, call.secrets), steps=steps, code=code)
    ]


def _called(files, call, job, worlds, common):
    workflow = files.called(job["uses"])
    declared = workflow.on["workflow_call"].get("inputs")
    inputs = {name: tuple(worlds.values(value)) for name, value in inputs_of(declared, job.get("with")).items()}
    if job.get("secrets") == "inherit":
        secrets = call.secrets
    else:
        given = (job.get("secrets") or {}).items()
        secrets = {name: _handed(_secrets(worlds.language, value), call.secrets) for name, value in given}
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


def permissions(job, workflow, of_caller):
    """What the job's token may do; where nobody says, it may do everything."""
    said = job.get("permissions", workflow.tree.get("permissions", of_caller))
    if said is None:
        return {"everything": "write"}
    if isinstance(said, str):
        return {"everything": said.removesuffix("-all")}
    return dict(said)


def _steps(files, worlds, written):
    """Those that may run, the steps of composite actions in place of them."""
    worlds = worlds.with_unknown({}, ("success", "failure"))
    for step in written:
        if not worlds.may(step.get("if", "success()")):
            continue
        uses = step.get("uses", "")
        given = {name: worlds.values(value) for name, value in (step.get("with") or {}).items()}
        if uses.startswith(HERE):
            action = files.action(uses)
            inputs = inputs_of(action.get("inputs"), step.get("with"))
            inside = {f"inputs.{name}": tuple(worlds.values(value)) for name, value in inputs.items()}
            yield from _steps(files, worlds.with_unknown(inside), steps_of(action))
        else:
            yield Step(step.get("run"), uses, given)


def _written(files, worlds, job):
    """The text of all steps that may run."""
    worlds = worlds.with_unknown({}, ("success", "failure"))
    for step in job["steps"]:
        if worlds.may(step.get("if", "success()")):
            yield step
            if step.get("uses", "").startswith(HERE):
                yield steps_of(files.action(step["uses"]))


def _secrets(language, written):
    """Names of the secrets that something reads; the job's own token is judged by its permissions."""
    if isinstance(written, dict):
        written = list(written.values())
    if isinstance(written, list):
        return set().union(*(_secrets(language, one) for one in written))
    expression = expression_of(written)
    paths = language.reads(expression)[0] if expression else ()
    found = {path.partition(".")[2] or EVERY_SECRET for path in paths if path.partition(".")[0] == "secrets"}
    return {EVERY_SECRET if name in ("?", "*") else name for name in found} - {"GITHUB_TOKEN"}


def _handed(names, secrets):
    """Which of the repository's secrets those are."""
    if secrets is None:
        return frozenset(names)
    if EVERY_SECRET in names:
        return frozenset().union(*secrets.values())
    return frozenset().union(*(secrets.get(name, ()) for name in names))


def _labels(value):
    if isinstance(value, dict):
        value = [value.get("group", ""), *_labels(value.get("labels", []))]
    return [label for label in (value if isinstance(value, list) else [value]) if label and isinstance(label, str)]


_RANK = [Code.NONE, Code.MAIN, Code.QUEUED, Code.OWN, Code.FORK]


def _is_checkout(step):
    return step.uses.startswith("actions/checkout@")


def _code(step, event):
    """Whose code a checkout brings, the least trusted it may be."""
    found = [_of_commit(ref, event) for ref in step.given.get("ref", [""])]
    if FORK in step.given.get("repository", []):
        found.append(Code.FORK)
    return max(found, key=_RANK.index)


def _of_commit(ref, event):
    if not ref:
        return event.code
    if ref in (TIP, MAIN, f"refs/heads/{MAIN}"):
        return Code.MAIN
    named = (event.sha, event.payload.get("workflow_run", {}).get("head_sha"), event.github["head_ref"])
    pull = event.payload.get("pull_request", {}).get("head", {}).get("sha")
    return event.about if ref in (*named, pull) else Code.FORK
