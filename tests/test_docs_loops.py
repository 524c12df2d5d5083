"""The loops of docs/loops.md run as they are printed."""

import re

import pytest

from ci_tools.gates import training
from ci_tools.gates.convergence import divergence
from ci_tools.gates.verdict import Outcome, judge
from ci_tools.record import open_record
from tests.documents import ROOT

BLOCKS = dict(
    re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", (ROOT / "docs/loops.md").read_text(), re.MULTILINE | re.DOTALL)
)
LOOPS = {
    "Your own loop": ("own", []),
    "Lightning": ("lightning", ["lightning"]),
    "Hugging Face Trainer": ("transformers", ["transformers", "accelerate"]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("loop", LOOPS)
def test_loop_leaves_a_finished_record_that_the_gates_can_judge(loop, tmp_path, monkeypatch):
    name, packages = LOOPS[loop]
    for package in packages:
        pytest.importorskip(package, reason=f"needs the package {package}: pip install 'switchback-ci[loops]'")
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[loop], f"docs/loops.md, {loop}", "exec"), {"__name__": "loop"})
    record = open_record(f"runs/{name}")
    assert record.meta.status == "finished"
    assert record.metrics["accuracy"] > 0.9
    verdict = judge(divergence(training.read(record)), divergence.limit, "default", lambda outcome: False)
    assert verdict.outcome == Outcome.PASSED, verdict
    assert record.evals["metric"].to_pylist().count("accuracy") >= 4


@pytest.mark.parametrize("loop", LOOPS)
def test_recording_adds_few_lines(loop):
    assert 4 <= sum(line.endswith("# +") for line in BLOCKS[loop].splitlines()) <= 10


def test_every_block_is_tested():
    assert BLOCKS.keys() == LOOPS.keys()
    assert (ROOT / "docs/loops.md").read_text().count("```python") == len(LOOPS)
