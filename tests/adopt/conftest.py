"""A stranger's repository: a git repository with a training script, and nothing of ours."""

from pathlib import Path

import pytest

UNSEEN = Path(__file__).parent / "unseen"


@pytest.fixture
def stranger(tmp_path, monkeypatch, git):
    """The working directory, its script not adopted yet."""
    root = tmp_path / "stranger"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init", "--quiet", "--initial-branch=trunk", ".")
    (root / "train.py").write_text((UNSEEN / "train.py").read_text())
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    return root
