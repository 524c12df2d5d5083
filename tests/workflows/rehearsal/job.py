"""One job, on a machine of its own: steps in order, each with the files and variables that a runner gives it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.workflows.events import REPOSITORY
from tests.workflows.files import HERE, inputs_of, steps_of
from tests.workflows.language import NotUnderstood, text
from tests.workflows.rehearsal.artifacts import Refused
from tests.workflows.rehearsal.equivalents import Unknown, act

LONGEST_S = 300
"""Seconds of one step; a rehearsal's are small."""
SHELLS = {None: ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]}
KEYS = {"name", "id", "if", "run", "uses", "with", "env", "shell", "working-directory", "continue-on-error"}
KEYS |= {"timeout-minutes"}
NAMES = {
    "sha": "SHA", "ref": "REF", "ref_name": "REF_NAME", "ref_type": "REF_TYPE", "head_ref": "HEAD_REF",
    "base_ref": "BASE_REF", "event_name": "EVENT_NAME", "repository": "REPOSITORY", "actor": "ACTOR",
    "repository_owner": "REPOSITORY_OWNER", "triggering_actor": "TRIGGERING_ACTOR", "run_id": "RUN_ID",
    "run_number": "RUN_NUMBER", "run_attempt": "RUN_ATTEMPT", "server_url": "SERVER_URL", "api_url": "API_URL",
    "workflow": "WORKFLOW", "workflow_ref": "WORKFLOW_REF", "job": "JOB",
}  # fmt: skip
"""Variables by the value of the `github` context that they repeat."""


@dataclass
class Told:
    """What became of a step."""

    name: str
    outcome: str
    seconds: float
    output: str = ""


@dataclass
class Job:
    """A job under way."""

    forge: object
    run: object
    name: str
    written: dict
    contexts: dict
    """`github`, `needs`, `vars`, `secrets`, `inputs`, `matrix`."""
    permissions: dict
    folder: Path
    told: list = field(default_factory=list)
    status: str = "success"
    variables: dict = field(default_factory=dict)
    """What steps added by GITHUB_ENV."""
    paths: list = field(default_factory=list)

    @property
    def workspace(self):
        return self.folder / "workspace"

    def execute(self):
        """Run it; returns result and outputs."""
        self.workspace.mkdir(parents=True)
        (self.folder / "temp").mkdir()
        (self.folder / "event.json").write_text(json.dumps(self.contexts["github"]["event"]))
        unknown = self.written.keys() & {"container", "services", "defaults", "continue-on-error"}
        if unknown:
            raise Unknown(f"{self.name}: {', '.join(sorted(unknown))}")
        github = self.contexts["github"] | {"job": self.name, "workspace": str(self.workspace)}
        self.contexts |= {"github": github, "runner": {"os": "Linux", "arch": "X64", "temp": str(self.folder / "temp")}}
        self.contexts["env"] = self._filled(self.written.get("env", {}), self.contexts)
        known = self._steps(self.written["steps"], self.contexts)
        outputs = self._filled(self.written.get("outputs", {}), self.contexts | {"steps": known})
        return self.status, {name: text(value) for name, value in outputs.items()}

    def _steps(self, steps, contexts):
        """Run steps one after the other; returns the `steps` context."""
        known = {}
        for step in steps:
            if unknown := step.keys() - KEYS:
                raise Unknown(f"{self.name}: a step's {', '.join(sorted(unknown))}")
            here = contexts | {"steps": known, "job": {"status": self.status}}
            here["env"] = contexts["env"] | self.variables
            here["env"] = here["env"] | self._filled(step.get("env", {}), here)
            runs = self.forge.language.value(step.get("if", "success()"), here, self.status)
            outcome, outputs = self._step(step, here) if runs else ("skipped", {})
            forgiven = outcome == "failure" and self._filled(step.get("continue-on-error", False), here)
            conclusion = "success" if forgiven else outcome
            if conclusion == "failure":
                self.status = "failure"
            if "id" in step:
                known[step["id"]] = {"outcome": outcome, "conclusion": conclusion, "outputs": outputs}
        return known

    def _step(self, step, contexts):
        name = step.get("name") or step.get("run") or step["uses"]
        begun, output = time.monotonic(), ""
        try:
            if step.get("uses", "").startswith(HERE):
                outcome, outputs = self._composite(step, contexts)
            elif "uses" in step:
                outcome, outputs = "success", act(self, step["uses"], self._filled(step.get("with", {}), contexts))
            else:
                outcome, outputs, output = self._command(step, contexts)
        except (Refused, NotUnderstood) as error:
            outcome, outputs, output = "failure", {}, str(error)
        told = Told(text(self._filled(name, contexts)), outcome, time.monotonic() - begun, output)
        self.told.append(told)
        with (self.folder / "log").open("a") as log:
            log.write(f"{told.outcome}: {told.name}, {told.seconds:.1f} s\n{output}\n")
        return outcome, outputs

    def _composite(self, step, contexts):
        """The steps of an action of this repository; as on GitHub they see its inputs and none of the job's."""
        action = self.run.files.action(step["uses"])
        given = inputs_of(action.get("inputs"), self._filled(step.get("with", {}), contexts))
        before, self.status = self.status, "success"
        known = self._steps(steps_of(action), contexts | {"inputs": self._filled(given, contexts)})
        outcome, self.status = self.status, before
        outputs = {name: one["value"] for name, one in (action.get("outputs") or {}).items()}
        return outcome, self._filled(outputs, contexts | {"steps": known})

    def _command(self, step, contexts):
        script = text(self._filled(step["run"], contexts))
        if replacement := self.forge.replaced.get(script.strip()):
            replacement(self)
            return "success", {}, f"replaced: {replacement.__doc__}"
        files = {name: self.folder / "temp" / f"{name.lower()}.{len(self.told)}" for name in ("OUTPUT", "ENV", "PATH")}
        for file in files.values():
            file.touch()
        path = self.folder / "temp" / f"step.{len(self.told)}.sh"
        path.write_text(script)
        where = self.workspace / text(self._filled(step.get("working-directory", ""), contexts))
        environment = self._environment(contexts, files)
        try:
            done = subprocess.run([*SHELLS[step.get("shell")], path], cwd=where, env=environment, timeout=LONGEST_S,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, errors="replace")  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"not done after {LONGEST_S} s: {(error.output or b'').decode(errors='replace')}") from None
        self.variables |= assignments(files["ENV"].read_text())
        self.paths = files["PATH"].read_text().splitlines()[::-1] + self.paths
        outcome = "failure" if done.returncode else "success"
        return outcome, assignments(files["OUTPUT"].read_text()), f"{done.stdout}\nexit {done.returncode}"

    def _environment(self, contexts, files):
        """What a command sees. Nothing of this machine but where programs are."""
        github, temp = contexts["github"], self.folder / "temp"
        known = {f"GITHUB_{variable}": text(github.get(name)) for name, variable in NAMES.items()}
        known |= {f"GITHUB_{name}": str(file) for name, file in files.items()}
        known |= {
            "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_REPOSITORY": REPOSITORY, "RUNNER_TEMP": str(temp), "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64",
            "HOME": str(self.forge.home), "LANG": "C.UTF-8", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        known["PATH"] = os.pathsep.join([*self.paths, os.environ["PATH"]])
        return known | {name: text(value) for name, value in contexts["env"].items()} | self.forge.environment

    def _filled(self, written, contexts):
        return self.forge.language.filled(written, contexts, self.status)


def assignments(text):
    """What a step wrote to GITHUB_OUTPUT or GITHUB_ENV: `name=value`, or `name<<END`, lines, `END`."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            value = []
            for more in lines:
                if more == end:
                    break
                value.append(more)
            found[name] = "\n".join(value)
        elif line:
            name, _, found_value = line.partition("=")
            found[name] = found_value
    return found
