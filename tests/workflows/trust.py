"""What may cross a boundary: rules over every job that any event may start. A violation is a sentence."""

from itertools import chain

from tests.workflows import events
from tests.workflows.events import HEAD, MERGED, Code
from tests.workflows.files import HERE, needs_of
from tests.workflows.language import expression_of
from tests.workflows.plan import State, plan
from tests.workflows.reach import permissions

JUDGED = {"pull_request", "merge_group", "push", "schedule", "workflow_dispatch", "workflow_run", "workflow_call"}
TRAINS = ("switchback run", "switchback reproduce", "switchback gate", "switchback calibrate", "make run", "make test")
"""Commands that execute the code of the model."""
SIGNS = ("id-token", "attestations")
CACHES = ("actions/cache",)
SETUPS = ("actions/setup-",)
DEPLOYS = frozenset({"production"})
ATTEST = ("actions/attest",)
DOWNLOADS = ("actions/download-artifact",)
STRANGERS = ("github.event", "github.head_ref", "github.ref_name", "inputs", "github.actor", "needs", "steps", "matrix")
"""Values that somebody outside may choose, or what somebody's code made of them."""
LEVELS = ["none", "read", "write"]


def planned(files):
    """Every job that any event may start."""
    flows = files.workflows.values()
    started = [(flow, event) for flow in flows for event in happenings(flow) if events.starts(flow, event)]
    ended = [(flow, events.workflow_run(event, source)) for source, event in started for flow in flows]
    started += [(flow, event) for flow, event in ended if events.starts(flow, event)]
    return list(chain.from_iterable(plan(files, flow, event) for flow, event in started))


def happenings(flow):
    """What happens in a repository, runs of workflows aside; of a pull request each kind that a workflow listens to."""
    pulls = [fork(), own()]
    pulls += [events.as_action(pull, action) for action in events.actions(flow) if action != "opened" for pull in pulls]
    return [
        *pulls,
        events.merge_group(head=MERGED),
        events.push(),
        events.push(after=HEAD, branch="deeper"),
        events.schedule(),
        events.dispatch(),
    ]


def fork():
    return events.pull_request(source=events.FORK)


def own():
    return events.pull_request()


def violations(files):
    """Everything that breaks a rule, each said once."""
    jobs = [job for job in planned(files) if job.state is not State.SKIPPED and not job.called]
    found = [f"{job.file}: {job.job}: {said}" for job in jobs for rule in OF_JOBS for said in rule(job)]
    for flow in files.workflows.values():
        found += [f"{flow.file}: {said}" for rule in OF_FILES for said in rule(files, flow)]
    releasing = {job.file for job in jobs if signs(job) or job.environments & DEPLOYS}
    found += [f"{job.file}: {job.job}: {said}" for job in jobs if job.file in releasing for said in restores(job)]
    return list(dict.fromkeys(found))


def strangers(job):
    """Whether somebody without a right to write decides what the job does."""
    return job.code is Code.FORK or (job.event.kind == "pull_request" and job.event.about is Code.FORK)


def fork_reaches_nothing(job):
    if not strangers(job):
        return
    whose = f"for a {job.event.label}" if job.event.about is Code.FORK else f"with anybody's commit ({job.event.label})"
    if job.own_runners and job.state is not State.GUARDED:
        yield f"reaches the runner {job.own_runners} {whose}, and nobody approves it"
    if job.secrets:
        yield f"reads {_secrets(job)} {whose}"
    if job.writes:
        yield f"may {', '.join(job.writes)} {whose}"


def pull_request_code_has_no_secrets(job):
    if job.code in (Code.OWN, Code.FORK):
        if job.secrets:
            yield f"reads {_secrets(job)} where {job.code.value} code runs"
        if job.writes:
            yield f"may {', '.join(job.writes)} where {job.code.value} code runs"


def command_of(step):
    """Program and sub-command of a step's line, `switchback gate` for instance, whatever stands before and behind."""
    return " ".join((step.run or "").strip().removeprefix("exec ").split()[:2])


def training_has_no_secrets(job):
    trains = sorted({command for step in job.steps if (command := command_of(step)) in TRAINS})
    if trains and job.secrets:
        yield f"reads {_secrets(job)} beside `{trains[0]}`"
    if trains and signs(job):
        yield f"may sign beside `{trains[0]}`"


def only_attest_signs(job):
    if signs(job) and not job.uses(*ATTEST):
        yield f"may {', '.join(signs(job))} and attests nothing"


def main_alone_deploys(job):
    if job.environments & DEPLOYS and (job.event.about is not Code.MAIN or job.code not in (Code.NONE, Code.MAIN)):
        yield f"deploys to {sorted(job.environments)} for a {job.event.label}"


def others_runs_are_only_read(job):
    """A job that follows a run of somebody's code runs main's, and knows which artifact it takes."""
    if job.event.kind != "workflow_run":
        return
    if job.code not in (Code.NONE, Code.MAIN):
        yield f"checks out {job.code.value} code after its run"
    for step in job.uses(*DOWNLOADS):
        if not all(step.given.get("name", [""])):
            yield "downloads whichever artifacts the run left; name one"


def artifacts_replace_no_code(job):
    """What training left may hold any path; over the checkout it would be executed by a job that has rights."""
    if job.secrets or job.writes:
        for step in job.uses(*DOWNLOADS):
            if any(str(path).strip("./") in ("", events.WORKSPACE.strip("/")) for path in step.given.get("path", [""])):
                yield f"unpacks an artifact over its checkout, and has rights ({_rights(job)}); name a folder"


OF_JOBS = [
    fork_reaches_nothing,
    pull_request_code_has_no_secrets,
    training_has_no_secrets,
    only_attest_signs,
    main_alone_deploys,
    others_runs_are_only_read,
    artifacts_replace_no_code,
]


def signs(job):
    return [f"{name}: write" for name in SIGNS if job.permissions.get(name) == "write"]


def restores(job):
    """Where a release job takes anything from a cache, which a pull request's run may have written."""
    for step in job.uses(*CACHES):
        yield f"restores a cache ({step.uses.partition('@')[0]}) in a workflow that releases"
    for step in job.uses(*SETUPS):
        if any(value not in ("", False, "false") for value in step.given.get("cache", [""])):
            yield f"restores a cache ({step.uses.partition('@')[0]}) in a workflow that releases"


def judged_events_alone(_, flow):
    for event in flow.on.keys() - JUDGED:
        yield f"is started by {event}, which this project never uses"


def nothing_is_written_into_scripts(files, flow):
    """GitHub replaces expressions before a shell sees the line, so a value could be a command."""
    for name, job in flow.jobs.items():
        for step in _every_step(files, job):
            script = (step.get("with") or {}).get("script")
            for expression in filter(None, (expression_of(step.get("run")), expression_of(script))):
                chosen = [path for path in files.language.reads(expression)[0] if path.startswith(STRANGERS)]
                if chosen:
                    yield f"{name}: writes {', '.join(chosen)} into a script; pass it by env"


def secrets_are_handed_over_by_name(_, flow):
    for name, job in flow.jobs.items():
        if job.get("secrets") == "inherit":
            yield f"{name}: hands over every secret; name those that are needed"


def called_jobs_ask_for_no_more(files, flow):
    """GitHub does not start a workflow that calls one which asks for more than the calling job may."""
    for name, job in flow.jobs.items():
        if not job.get("uses", "").startswith(HERE):
            continue
        have = permissions(job, flow, None)
        inner = files.called(job["uses"])
        for called, one in inner.jobs.items():
            for permission, level in permissions(one, inner, have).items():
                if LEVELS.index(level) > LEVELS.index(have.get("everything", have.get(permission, "none"))):
                    yield f"{name}: calls {inner.file}, whose job {called} asks for {permission}: {level}"


def runs_that_are_awaited_exist(files, flow):
    known = {one.name for one in files.workflows.values()}
    for name in flow.on.get("workflow_run", {}).get("workflows", []):
        if name not in known:
            yield f"awaits runs of {name!r}, and no workflow has that name"


def outputs_that_are_read_exist(files, flow):
    for name, job in flow.jobs.items():
        for path in _reads(files.language, job):
            root, *rest = path.split(".")
            if root == "needs" and len(rest) == 3 and rest[1] == "outputs":
                if rest[0] not in needs_of(job) or rest[2] not in _outputs(files, flow.jobs[rest[0]]):
                    yield f"{name}: reads {path}, which is never set"
            elif root == "steps" and rest[0] not in {step.get("id") for step in job.get("steps", [])}:
                yield f"{name}: reads {path}, and no step has that id"


OF_FILES = [
    judged_events_alone,
    nothing_is_written_into_scripts,
    secrets_are_handed_over_by_name,
    called_jobs_ask_for_no_more,
    runs_that_are_awaited_exist,
    outputs_that_are_read_exist,
]


def _outputs(files, job):
    if "uses" in job:
        return files.called(job["uses"]).on["workflow_call"].get("outputs") or {}
    return job.get("outputs", {})


def _every_step(files, job):
    for step in job.get("steps", []):
        yield step
        if step.get("uses", "").startswith(HERE):
            yield from files.action(step["uses"])["runs"]["steps"]


def _reads(language, written, key=""):
    """Every value that something reads, conditions included."""
    if isinstance(written, dict):
        return {path for name, value in written.items() for path in _reads(language, value, name)}
    if isinstance(written, list):
        return {path for value in written for path in _reads(language, value)}
    expression = written if key == "if" else expression_of(written)
    return set(language.reads(expression)[0]) if expression else set()


def _rights(job):
    return ", ".join(filter(None, (_secrets(job), *job.writes)))


def _secrets(job):
    return ", ".join("every secret" if name == "*" else name for name in sorted(job.secrets))
