"""The files that an adopted repository gets, as text by path."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from ci_tools.adopt import workflows
from ci_tools.adopt.origin import Origin
from ci_tools.adopt.pipeline import dvc_yaml, params_yaml
from ci_tools.adopt.plan import extended, text_of
from ci_tools.adopt.repository import REQUIREMENTS, Repository
from ci_tools.project import PACKAGE

EXTRAS = "adopt,report,serve,track"
RELEASE_POLICY = "release.yaml"
TESTS = "tests/model"
ACCEPTANCE = (
    "conftest.py",
    "test_artifact.py",
    "test_quality.py",
    "test_reproducibility.py",
    "test_training.py",
)
_IGNORED_BY_GIT = (
    "/runs/", "/evaluation/", "/export/", "/fingerprint/", "/gates/", "/report/", "/wandb/", "/bundles/",
    "/.dvc-storage/", "/.switchback/", "__pycache__/",
)  # fmt: skip
_IGNORED_BY_DVC = (".venv", ".git", ".dvc-storage", ".switchback", "__pycache__", "runs/.*.lock")
_DVC_CONFIG = """\
[core]
    analytics = false
    autostage = false
    remote = local
['remote "local"']
    url = ../.dvc-storage
"""
_DVC_IGNORED = "/config.local\n/tmp\n/cache\n"


def wanted(repository: Repository, origin: Origin) -> dict[str, str]:
    """Every file by its path from the root, as it should read afterwards.

    Files that are extended, .gitignore for instance, hold what the repository has in them already.

    Args:
        repository: as it is now.
        origin: what CI installs this package from.

    Raises:
        ConfigError: there is a params.yaml, and it is no YAML mapping, or a file to be extended is no text.
    """
    root = repository.root
    params = params_yaml(repository.training, root / "params.yaml")
    stages = dvc_yaml(repository.training, YAML(typ="safe", pure=True).load(StringIO(params)))
    own_stages = text_of(root / "dvc.yaml") or stages
    found = {
        "params.yaml": params,
        "dvc.yaml": stages,
        "gates.yaml": workflows.template("gates.yaml"),
        REQUIREMENTS: f"# What `switchback` needs beside the project's own packages.\n"
        f"{PACKAGE}[{EXTRAS}]{origin.requirement}\n",
        ".dvc/config": _DVC_CONFIG,
        ".dvc/.gitignore": _DVC_IGNORED,
        ".dvcignore": _with_lines(root / ".dvcignore", _IGNORED_BY_DVC),
        ".gitignore": _with_lines(root / ".gitignore", _IGNORED_BY_GIT),
    }
    found |= {f"{TESTS}/{name}": workflows.template(f"{TESTS}/{name}.in") for name in ACCEPTANCE}
    if workflows.MODEL in own_stages:
        found[RELEASE_POLICY] = workflows.template(RELEASE_POLICY)
    if repository.elsewhere:
        return found
    return found | workflows.wanted(repository, own_stages)


def _with_lines(path: Path, lines: Sequence[str]) -> str:
    """The file with these lines, those that it lacks at its end."""
    before = text_of(path)
    known = {line.strip().strip("/") for line in before.splitlines()}
    return extended(before, [line for line in lines if line.strip("/") not in known])
