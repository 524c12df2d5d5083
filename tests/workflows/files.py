"""The workflows and composite actions of a repository, as GitHub's parser reads them."""

from dataclasses import dataclass
from pathlib import Path

WORKFLOWS = ".github/workflows"
HERE = ("./", "$/")
"""Begins a path in the same repository: what is checked out, or the commit that the workflow itself is of."""


@dataclass(frozen=True)
class Workflow:
    path: str
    tree: dict

    @property
    def file(self):
        return Path(self.path).name

    @property
    def name(self):
        """By which `workflow_run` knows it."""
        return self.tree.get("name") or self.path

    @property
    def on(self):
        """Settings by event."""
        on = self.tree["on"]
        if isinstance(on, str):
            on = [on]
        return {event: {} for event in on} if isinstance(on, list) else {key: value or {} for key, value in on.items()}

    @property
    def jobs(self):
        return self.tree["jobs"]


class Files:
    """Everything under .github that runs, and the language it is written in."""

    def __init__(self, root, language):
        self.root, self.language = Path(root), language
        paths = sorted((self.root / WORKFLOWS).glob("*.y*ml"))
        texts = {str(path.relative_to(self.root)): path.read_text() for path in paths}
        self.workflows = {path: Workflow(path, language.workflow(path, text, texts)) for path, text in texts.items()}

    def called(self, uses):
        """The workflow of this repository that a job calls."""
        return self.workflows[uses[len(HERE[0]) :]]

    def action(self, uses):
        """The action of this repository that a step uses."""
        folder = self.root / uses[len(HERE[0]) :]
        path = next(path for name in ("action.yml", "action.yaml") if (path := folder / name).is_file())
        return self.language.action(str(path.relative_to(self.root)), path.read_text())


def steps_of(action):
    return action["runs"]["steps"]


def inputs_of(definitions, given):
    """The inputs that a called workflow or action sees: what it is given, else its defaults.

    `definitions`: by name, as declared under `inputs`; `given`: by name, as under `with`.
    """
    defaults = {name: (one or {}).get("default") for name, one in (definitions or {}).items()}
    return defaults | (given or {})


def needs_of(job):
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs
