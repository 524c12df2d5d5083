"""What a job could reach, read off what is written for it: steps, secrets, permissions, runners, somebody's code."""

from dataclasses import dataclass

from tests.workflows.events import FORK, MAIN, TIP, Code
from tests.workflows.files import HERE, inputs_of, steps_of
from tests.workflows.language import expression_of

EVERY_SECRET = "*"
RANK = [Code.NONE, Code.MAIN, Code.QUEUED, Code.OWN, Code.FORK]
"""The less trusted the later."""


@dataclass(frozen=True)
class Step:
    """One that may run, those of composite actions included."""

    run: str | None
    uses: str
    given: dict
    """Each value that an input may have."""


def permissions(job, workflow, of_caller):
    """What the job's token may do; where nobody says, it may do everything."""
    said = job.get("permissions", workflow.tree.get("permissions", of_caller))
    if said is None:
        return {"everything": "write"}
    if isinstance(said, str):
        return {"everything": said.removesuffix("-all")}
    return dict(said)


def steps_that_may_run(files, worlds, written):
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
            yield from steps_that_may_run(files, worlds.with_unknown(inside), steps_of(action))
        else:
            yield Step(step.get("run"), uses, given)


def texts_that_may_run(files, worlds, job):
    """The text of all steps that may run."""
    worlds = worlds.with_unknown({}, ("success", "failure"))
    for step in job["steps"]:
        if worlds.may(step.get("if", "success()")):
            yield step
            if step.get("uses", "").startswith(HERE):
                yield steps_of(files.action(step["uses"]))


def secrets_in(language, written):
    """Names of the secrets that something reads; the job's own token is judged by its permissions."""
    if isinstance(written, dict):
        written = list(written.values())
    if isinstance(written, list):
        return set().union(*(secrets_in(language, one) for one in written))
    expression = expression_of(written)
    paths = language.reads(expression)[0] if expression else ()
    found = {path.partition(".")[2] or EVERY_SECRET for path in paths if path.partition(".")[0] == "secrets"}
    return {EVERY_SECRET if name in ("?", "*") else name for name in found} - {"GITHUB_TOKEN"}


def handed(names, secrets):
    """Which of the repository's secrets those are."""
    if secrets is None:
        return frozenset(names)
    if EVERY_SECRET in names:
        return frozenset().union(*secrets.values())
    return frozenset().union(*(secrets.get(name, ()) for name in names))


def labels(value):
    if isinstance(value, dict):
        value = [value.get("group", ""), *labels(value.get("labels", []))]
    return [label for label in (value if isinstance(value, list) else [value]) if label and isinstance(label, str)]


def is_checkout(step):
    return step.uses.startswith("actions/checkout@")


def code_of(step, event):
    """Whose code a checkout brings, the least trusted it may be."""
    found = [_of_commit(ref, event) for ref in step.given.get("ref", [""])]
    if FORK in step.given.get("repository", []):
        found.append(Code.FORK)
    return max(found, key=RANK.index)


def _of_commit(ref, event):
    if not ref:
        return event.code
    if ref in (TIP, MAIN, f"refs/heads/{MAIN}"):
        return Code.MAIN
    named = (event.sha, event.payload.get("workflow_run", {}).get("head_sha"), event.github["head_ref"])
    pull = event.payload.get("pull_request", {}).get("head", {}).get("sha")
    return event.about if ref in (*named, pull) else Code.FORK
