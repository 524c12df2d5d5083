"""The workflows of an adopted repository: this one's own, as far as they suit every repository."""

import json
from collections.abc import Iterator
from pathlib import Path

import ci_tools
from ci_tools import required
from ci_tools.adopt.repository import Repository

FOLDER = ".github"
ALWAYS = ("_experiment.yml", "gpu.yml", "report.yml")
"""Train, judge and report."""
MODEL = "export/model.onnx"
"""What a stage has to write before anything can be released."""
WITH_MODEL = ("release.yml", "rollback.yml")
WITH_DATA = ("retrain.yml",)
"""Need a profile of the data."""
_OWN = ("actions/setup/action.yml", "workflows/smoke.yml")
_REQUIRED = f"{FOLDER}/required.py"
_TEMPLATE = Path(__file__).parent / "template"
_CHECKOUT = Path(ci_tools.__file__).parents[1]
SHIPPED = {"workflows": ".github/workflows", "release.yaml": "release.yaml"}
"""By place in `template` of an installed package: where a checkout has it, so that each exists once."""


def template(name: str) -> str:
    """One file that an adopted repository gets, before anything of that repository is put into it."""
    path = _TEMPLATE / name
    if not path.exists():
        first, *rest = name.split("/")
        path = _CHECKOUT.joinpath(SHIPPED[first], *rest)
    return path.read_text(encoding="utf-8")


def wanted(repository: Repository, stages: str) -> dict[str, str]:
    """Workflows and what they call, by path from the root.

    Args:
        repository: says branch, Python and packages.
        stages: text of dvc.yaml: without a stage that exports a model there is no release, and without a profile of
            the data nothing tells when to train anew.
    """
    names = [*ALWAYS]
    names += WITH_MODEL if MODEL in stages else ()
    names += WITH_DATA if "data/profile.json" in stages else ()
    found = {f"{FOLDER}/{name}": template(f"github/{name}") for name in _OWN}
    found |= {f"{FOLDER}/workflows/{name}": template(f"workflows/{name}") for name in names}
    found[_REQUIRED] = Path(required.__file__).read_text(encoding="utf-8")
    return {path: _fitted(text, repository) for path, text in found.items()}


def _fitted(text: str, repository: Repository) -> str:
    for own, theirs in _replacements(repository):
        text = text.replace(own, theirs)
    return text


def _replacements(repository: Repository) -> Iterator[tuple[str, str]]:
    yield "@PYTHON@", repository.python
    yield "@PACKAGES@", repository.packages
    yield "branches: [main]", f"branches: [{json.dumps(repository.branch)}]"
    # The code of an adopted repository is the business of its own workflows.
    yield "workflows: [CI, Experiment]", "workflows: [Smoke, Experiment]"
    yield "run: make required", f"run: python3 {_REQUIRED}"
