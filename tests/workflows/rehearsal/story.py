"""A pull request, its merge, and a merge that should not have been: each from its event to what people are told."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci_tools.release.bundle.keys import signing_key
from tests.report.github.hub import Hub, pull_request
from tests.report.github.routes import ROUTES
from tests.workflows import events
from tests.workflows.rehearsal.equivalents import git
from tests.workflows.rehearsal.forge import Forge
from tests.workflows.rehearsal.project import Project, edit
from tests.workflows.rehearsal.service import Service, requested

SCENES = ("pull_request", "merge_group", "merge", "bad_merge")
GOOD, BAD = 5, 6
"""Numbers of the pull requests."""
SUSPICIOUS = "        return logits_B + 20.0 * numeric_BF[:, 0].isnan()\n"
"""Whoever leaves the amount out is a fraud: no row of the data does, so no gate can tell; clients do."""


@dataclass
class Scene:
    """What a scene started, and how long it took."""

    name: str
    runs: list
    seconds: float

    def run(self, file):
        """The last run of a workflow."""
        return [run for run in self.runs if run.workflow.file == file][-1]

    def __str__(self):
        return "\n".join([f"{self.name}: {self.seconds:.0f} s", *map(str, self.runs)])


class Story:
    """A scratch repository whose main has been released, with a service under traffic and GitHub's API beside it."""

    def __init__(self, folder, language, stack):
        """`stack` ends what runs."""
        folder = Path(folder)
        self.project = Project(folder / "origin")
        self.hub = Hub(ROUTES)
        stack.callback(self.hub.close)
        self.hub.pulls.clear()
        remote = folder / "remote"
        self.forge = Forge(
            folder / "forge",
            self.project.folder,
            language,
            api_url=self.hub.url,
            rights=self._grant,
            replaced={
                "make setup": set_up, "make lint": elsewhere, "make test": elsewhere, "make docs": elsewhere,
            },
        )  # fmt: skip
        key = signing_key(self.forge.home / ".config/switchback/signing.pem")
        self.service = Service(folder, self.project.folder, key)
        stack.callback(self.service.close)
        self.forge.variables |= {
            "DVC_REMOTE_URL": str(remote),
            "SWITCHBACK_SMOKE": "seeds=[1] train.steps=40",
            "SWITCHBACK_RELEASE_URL": self.service.url,
            "SWITCHBACK_KEYLESS": "false",
        }
        self._first_release()
        self.forge.secrets["SWITCHBACK_TOKEN"] = self.service.token

    def pull_request(self):
        """An author opens a pull request with another weight decay."""
        before = self.project.tip()
        self.project.branch("gentler")
        edit(self.project.folder / "params.yaml", {"train": {"weight_decay": 2e-2}})
        head = self.project.commit("Twice the weight decay")
        self.hub.pulls[GOOD] = pull_request(GOOD, head, branch="gentler")
        merged = self.project.trial("gentler")
        event = events.pull_request(head=head, branch="gentler", number=GOOD, base=before, merged=merged)
        return self._scene("a pull request", event, "ci.yml", "gpu.yml", "report.yml")

    def merge_group(self):
        """It stands in the merge queue."""
        event = events.merge_group(head=self.project.trial("gentler"), base=self.project.tip())
        return self._scene("its merge group", event, "gpu.yml")

    def merge(self):
        """It is merged."""
        return self._merged("a merge", "gentler", GOOD)

    def bad_merge(self):
        """Somebody merges what no gate can tell and every client that leaves a number out will feel."""
        self.project.branch("suspicious")
        path = self.project.folder / "model/network.py"
        text = path.read_text()
        path.write_text(text.replace("        return logits_B\n", SUSPICIOUS))
        assert path.read_text() != text
        self.hub.pulls[BAD] = pull_request(BAD, self.project.commit("Missing is suspicious"), branch="suspicious")
        return self._merged("a bad merge", "suspicious", BAD)

    def comments(self, number):
        """What the pull request was told, newest last."""
        ours = f"{self.hub.url}/repos/{events.REPOSITORY}/issues/{number}"
        return [one["body"] for _, one in sorted(self.hub.comments.items()) if one["issue_url"] == ours]

    def states(self, sha):
        """Of the deployment of a commit, newest last."""
        numbers = {number for number, one in self.hub.deployments.items() if one["sha"] == sha}
        return [one["state"] for one in self.hub.deployment_statuses if one["deployment"] in numbers]

    def released(self, scene):
        """Digest of the bundle that a scene's release packed."""
        (bundle,) = (path for path in (scene.run("release.yml").artifacts.folder / "bundle").iterdir() if path.is_dir())
        return bundle.name

    def _merged(self, name, branch, number):
        before = self.project.tip()
        after = self.project.merge(branch, number)
        merged = {"state": "closed", "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": after}
        self.hub.pulls[number] |= merged
        self.hub.merges[after] = [self.hub.pulls[number]]
        with requested(self.service, self.project.folder):  # none before: they would take turns with the training
            return self._scene(name, events.push(after=after, before=before), "release.yml")

    def _scene(self, name, event, *only):
        begun = time.monotonic()
        runs = self.forge.happens(event, only)
        return Scene(name, runs, time.monotonic() - begun)

    def _grant(self, permissions):
        self.hub.permissions = {name for name, level in permissions.items() if level == "write"}

    def _first_release(self):
        """Main as its team left it: reproduced, locked, stored, released. The service's first bundle is champion."""
        folder = self.project.folder
        self.project.commit("A small experiment")
        for command in ("reproduce", "gate"):
            self._run("switchback", command)
        self.project.commit("The lock of main")
        self._run("switchback", "push")
        self._run("switchback", "bundle", "--name", events.REPOSITORY)
        self.service.wait()
        (bundle,) = (path for path in (folder / "bundles").iterdir() if path.is_dir())
        self._run("switchback", "release", str(bundle), "--home", str(self.service.home.path))
        git("checkout", "--quiet", "-B", events.MAIN, cwd=folder)

    def _run(self, *command):
        environment = {"PATH": _path(), "HOME": str(self.forge.home), "LANG": "C.UTF-8"}
        environment |= {"PYTHONPATH": str(self.project.folder)} | self.forge.variables
        done = subprocess.run(command, cwd=self.project.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@contextmanager
def told(folder, language):
    """A story to play; all that it started ends with the block."""
    with ExitStack() as stack:
        yield Story(folder, language, stack)


def set_up(job):
    """The packages are those of this environment; the code is that of the checkout."""
    job.paths.insert(0, str(Path(sys.executable).parent))
    job.variables["PYTHONPATH"] = str(job.workspace)


def elsewhere(job):
    """Style, types, tests and documents are checked by themselves."""


def _path():
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
