"""The world moved on since dvc.lock was committed: found without a second revision."""

import json

import pytest

from ci_tools.drift import against_lock
from ci_tools.errors import RecordError
from ci_tools.pipeline import reproduce

STAGE = """\
stages:
  data:
    cmd: mkdir -p data && cp world.json data/profile.json
    deps: [world.json]
    outs: [data/profile.json]
"""


@pytest.fixture
def locked(repository, git):
    """A committed lock; what the data stage reads is not in git."""
    (repository / "dvc.yaml").write_text(STAGE)
    (repository / ".gitignore").write_text("/data/\n/world.json\n/.dvc-storage/\n")
    world([900, 80, 15, 5])
    reproduce()
    git("add", "--all")
    git("commit", "--quiet", "-m", "data")
    return repository


def world(counts):
    split = {"counts": counts, "missing": 0}
    column = {"edges": [1.0, 2.0, 3.0], "train": split, "validation": split, "test": split}
    with open("world.json", "w") as file:
        json.dump({"numeric": {"amount": column}, "categorical": {}}, file)


def test_same_world_has_not_drifted(locked, switchback):
    code, out, err = switchback("drift")
    assert code == 0, err
    assert out.startswith("drift passed: 0 ")


@pytest.mark.parametrize(("counts", "drifted"), [([890, 88, 17, 5], False), ([500, 300, 150, 50], True)])
def test_other_world_is_judged_by_the_drift_gate(locked, switchback, tmp_path, monkeypatch, counts, drifted):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    world(counts)
    reproduce(["data"])
    code, out, err = switchback("drift", "--json")
    assert code == 0, err
    assert json.loads(out)["drifted"] is drifted
    assert (tmp_path / "output").read_text() == f"drifted={str(drifted).lower()}\n"


def test_limit_is_that_of_the_policy(locked):
    world([500, 300, 150, 50])
    reproduce(["data"])
    assert against_lock().found
    (locked / "gates.yaml").write_text("gates: {drift: {limit: 9.0}}\n")
    assert not against_lock().found


def test_data_that_are_nowhere_are_one_line(locked, switchback):
    world([1, 1, 1, 1])
    reproduce(["data"])
    for path in (locked / ".dvc/cache/files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(RecordError, match=r"HEAD:data/profile\.json: cannot be fetched"):
        against_lock()
    assert switchback("drift")[0] == 2
