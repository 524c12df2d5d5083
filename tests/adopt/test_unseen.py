"""A repository that was never seen is adopted, with ten changed lines in its script, and its change is told."""

import difflib
import re
from pathlib import Path

import pytest

from ci_tools.gates import files
from ci_tools.gates.verdict import Outcome
from tests.adopt.conftest import UNSEEN

FLOOR = "metrics:\n  accuracy: { floor: 0.85, margin: 0.02 }\n"
SILENT = {"onnx_parity", "model_size", "latency"}
"""Gates over a model that is exported: there is none."""


def test_ten_lines_of_the_script_change_at_most():
    before, after = ((UNSEEN / name).read_text().splitlines() for name in ("train.py", "adopted/train.py"))
    changes = list(difflib.ndiff(before, after))
    added, removed = (sum(line.startswith(sign) for line in changes) for sign in "+-")
    assert removed <= added <= 10


@pytest.fixture
def adopted(stranger, switchback, git):
    """The same after `switchback init`, the ten lines, and a floor."""
    assert switchback("init")[0] == 0
    Path("train.py").write_text((UNSEEN / "adopted/train.py").read_text())
    gates = Path("gates.yaml").read_text()
    assert "metrics: {}\n" in gates
    Path("gates.yaml").write_text(gates.replace("metrics: {}\n", FLOOR))
    git("add", "--all")
    git("commit", "--quiet", "-m", "Adopt")
    return stranger


def test_run_is_gated_and_reported(adopted, switchback):
    code, out, err = switchback("run", "--no-rehearsal", "--set", "seeds=[1]")
    assert code == 0, err
    found = files.read(files.FOLDER / files.VERDICTS)
    verdicts = {verdict.gate: verdict for verdict in found.verdicts}
    assert found.blocking == ()
    passed = {gate for gate, verdict in verdicts.items() if verdict.outcome is Outcome.PASSED}
    assert passed >= {"divergence", "plateau", "quality_floor", "checkpoint_corruption", "no_pickle"}
    assert verdicts.keys() - passed >= SILENT
    assert "nothing to release" in verdicts["onnx_parity"].diagnosis
    comment = Path("report/comment.md").read_text()
    assert "You can merge" in comment
    assert re.search(r"\| `accuracy` \| 0\.9\d+ \|", comment), comment
    assert "so there is nothing to release" in out
    assert Path("report/index.html").is_file()
    assert "report: report/index.html" in out
