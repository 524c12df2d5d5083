import subprocess
from pathlib import Path

import pytest

from tests.workflows import events
from tests.workflows.rehearsal.forge import Forge


@pytest.fixture
def repository(tmp_path, git, monkeypatch):
    """A repository whose main holds some files; commits more of them."""
    folder = tmp_path / "origin"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main", ".")

    def commit(files):
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "-m", "change")
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    commit.folder = folder
    return commit


@pytest.fixture
def pushed(tmp_path, language, repository):
    """The runs that a push to main starts: workflows by name, with what else the repository holds."""

    def push(files=None, settings=None, **workflows):
        named = {f".github/workflows/{name}.yml": text for name, text in workflows.items()}
        sha = repository(named | (files or {}))
        forge = Forge(tmp_path / "forge", repository.folder, language, **(settings or {}))
        return forge.happens(events.push(after=sha))

    return push
