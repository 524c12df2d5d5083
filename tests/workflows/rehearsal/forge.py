"""A repository on GitHub, as far as workflows see it: events start runs, runs that end start others."""

import itertools
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.workflows import events
from tests.workflows.events import MAIN
from tests.workflows.files import Files, inputs_of, needs_of
from tests.workflows.reach import permissions
from tests.workflows.rehearsal.artifacts import Artifacts
from tests.workflows.rehearsal.equivalents import git, origin_at
from tests.workflows.rehearsal.job import Job


@dataclass
class Done:
    """What became of a job."""

    result: str
    outputs: dict = field(default_factory=dict)
    steps: list = field(default_factory=list)

    @property
    def seconds(self):
        return sum(step.seconds for step in self.steps)


@dataclass
class Run:
    """A workflow that an event started."""

    number: int
    workflow: object
    event: object
    files: Files
    artifacts: Artifacts
    jobs: dict = field(default_factory=dict)
    attested: dict = field(default_factory=dict)
    """SHA-256 of what was attested, by file name."""

    @property
    def conclusion(self):
        results = {done.result for done in self.jobs.values()}
        return "failure" if "failure" in results else "success" if "success" in results else "skipped"

    def __str__(self):
        lines = [f"{self.workflow.file} ({self.event.label}): {self.conclusion}"]
        for name, done in self.jobs.items():
            lines.append(f"  {name}: {done.result}, {done.seconds:.1f} s")
            for step in done.steps:
                lines.append(f"    {step.outcome}: {step.name}")
                if step.outcome == "failure":
                    lines += [f"      {line}" for line in step.output.splitlines()[-15:]]
        return "\n".join(lines)


class Forge:
    """A repository, its settings, and every run so far."""

    def __init__(self, folder, origin, language, *, variables=None, secrets=None, environment=None, replaced=None,
                 api_url="https://api.github.com", rights=lambda permissions: None):  # fmt: skip
        """Nothing has happened yet.

        Args:
            folder: for everything that runs leave.
            origin: the repository, any clone.
            language: as GitHub reads workflows.
            variables, secrets: of the repository, by name.
            environment: variables of the machine, for every command.
            replaced: by a command, what is done instead of it; its docstring says why.
            api_url: where GitHub's API answers.
            rights: told the permissions of each job before it begins.
        """
        self.folder, self.origin, self.language = Path(folder), origin_at(origin), language
        self.variables, self.secrets = variables or {}, {"GITHUB_TOKEN": "secret"} | (secrets or {})
        self.environment, self.replaced = environment or {}, replaced or {}
        self.api_url, self.rights = api_url, rights
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.runs = {}
        self._numbers = itertools.count(1)

    def happens(self, event, only=()):
        """Every run that an event starts, and those that their ends start, in order.

        `only`: files of the workflows that may start; none: all.
        """
        runs = []
        for path, workflow in self._files(event.sha).workflows.items():
            if events.starts(workflow, event) and (not only or workflow.file in only):
                runs.append(self._run(path, event))
        main = git("rev-parse", MAIN, cwd=self.origin)
        for run in list(runs) if event.kind != "workflow_run" else []:
            ended = events.workflow_run(event, run.workflow, conclusion=run.conclusion, run_id=run.number, sha=main)
            runs += self.happens(ended, only)
        return runs

    def _files(self, sha):
        """The workflows of a commit, which are the ones that GitHub takes."""
        folder = self.folder / "commits" / sha
        if not folder.exists():
            folder.mkdir(parents=True)
            archive = folder.with_suffix(".tar")
            git("archive", f"--output={archive}", sha, ".github", cwd=self.origin)
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        return Files(folder, self.language)

    def _run(self, path, event):
        number = next(self._numbers)
        files = self._files(event.sha)
        run = Run(number, files.workflows[path], event, files, Artifacts(self.folder / f"run-{number}" / "artifacts"))
        self.runs[number] = run
        inputs = event.payload.get("inputs") or {}
        github = event.github | {
            "token": self.secrets["GITHUB_TOKEN"],
            "run_id": str(number),
            "api_url": self.api_url,
            "workflow": run.workflow.name,
            "workflow_ref": f"{events.REPOSITORY}/{path}@{event.ref}",
            "workflow_sha": event.sha,
        }
        contexts = {"github": github, "vars": self.variables, "secrets": self.secrets, "inputs": inputs}
        self._jobs(run, run.workflow, contexts, "", None)
        return run

    def _jobs(self, run, workflow, contexts, prefix, granted):
        """Run the jobs of a workflow; returns the `needs` context that they make."""
        done = {}
        order = sorted(workflow.jobs, key=lambda name: _depth(workflow.jobs, name))
        for name in order:
            job = workflow.jobs[name]
            needs = {need: done[need] for need in needs_of(job)}
            here = contexts | {"needs": needs}
            status = _status(workflow.jobs, name, done)
            full = f"{prefix}{name}"
            if not self.language.value(job.get("if", "success()"), here, status):
                run.jobs[full] = Done("skipped")
            else:
                rights = permissions(job, workflow, granted)
                run.jobs[full] = self._job(run, workflow, full, job, here, rights)
            done[name] = {"result": run.jobs[full].result, "outputs": run.jobs[full].outputs}
        return done

    def _job(self, run, workflow, name, job, contexts, rights):
        if "uses" in job:
            return self._call(run, name, job, contexts, rights)
        results = []
        for number, cell in enumerate(self._cells(job, contexts)):
            self.rights(rights)
            place = self.folder / f"run-{run.number}" / f"{name.replace(' / ', '.')}-{number}"
            env = {**workflow.tree.get("env", {}), **job.get("env", {})}
            one = Job(self, run, name, {**job, "env": env}, contexts | {"matrix": cell}, rights, place)
            result, outputs = one.execute()
            results.append(Done(result, outputs, one.told))
        worst = "failure" if any(one.result == "failure" for one in results) else "success"
        outputs = {key: value for one in results for key, value in one.outputs.items()}
        return Done(worst, outputs, [step for one in results for step in one.steps])

    def _call(self, run, name, job, contexts, rights):
        called = run.files.called(job["uses"])
        declared = called.on["workflow_call"]
        given = self.language.filled(job.get("with", {}), contexts)
        inputs = self.language.filled(inputs_of(declared.get("inputs"), given), contexts)
        secrets = job.get("secrets", {})
        secrets = contexts["secrets"] if secrets == "inherit" else self.language.filled(secrets, contexts)
        secrets = {"GITHUB_TOKEN": contexts["secrets"]["GITHUB_TOKEN"]} | secrets
        inside = contexts | {"inputs": inputs, "secrets": secrets}
        done = self._jobs(run, called, inside, f"{name} / ", rights)
        outputs = {key: one["value"] for key, one in (declared.get("outputs") or {}).items()}
        results = {one["result"] for one in done.values()}
        result = "failure" if "failure" in results else "success" if "success" in results else "skipped"
        return Done(result, self.language.filled(outputs, inside | {"jobs": done}))

    def _cells(self, job, contexts):
        """The combinations of a matrix."""
        matrix = (job.get("strategy") or {}).get("matrix") or {}
        matrix = self.language.filled(matrix, contexts)
        axes = {key: values for key, values in matrix.items() if key not in ("include", "exclude")}
        cells = [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]
        return (cells if axes or "include" not in matrix else []) + matrix.get("include", [])


def _depth(jobs, name):
    return 1 + max((_depth(jobs, need) for need in needs_of(jobs[name])), default=0)


def _status(jobs, name, done):
    """As which all that a job needs ended, whatever that needed included."""
    every, todo = set(), list(needs_of(jobs[name]))
    while todo:
        need = todo.pop()
        if need not in every:
            every.add(need)
            todo += needs_of(jobs[need])
    results = {done[need]["result"] for need in every}
    return "failure" if "failure" in results else "skipped" if "skipped" in results else "success"
