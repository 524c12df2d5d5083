import subprocess
import sys

import pytest

from ci_tools.gates import Outcome, Reading, calibration, gate, suite
from ci_tools.gates.calibration import Calibration, Reference
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
from tests.gates import project

OWN_GATE = """\
from ci_tools.gates import Reading, gate

@gate(limit=0.02, unit="share of rows", remedy="look at what sends them")
def empty_rows(run):
    share = run.metrics["release"]["empty_rows"]
    return Reading(statistic=share, diagnosis=f"{share:.0%} of the rows are empty")

def test_empty_rows(run, policy):
    policy.require(empty_rows(run))
"""


def pytest_in(root, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def test_new_gate_takes_at_most_ten_lines(tmp_path, monkeypatch):
    assert len(OWN_GATE.splitlines()) <= 10
    project.write(tmp_path, {"test_rows.py": OWN_GATE}, policy="gates: {empty_rows: {limit: 0.3}}")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/metrics.json").write_text('{"release": {"empty_rows": 0.25}}')
    monkeypatch.chdir(tmp_path)
    (verdict,) = suite.judge().verdicts
    assert (verdict.gate, verdict.outcome, verdict.threshold) == ("empty_rows", Outcome.PASSED, 0.3)
    assert verdict.diagnosis == "25% of the rows are empty"

    (tmp_path / "gates.yaml").unlink()
    done = pytest_in(tmp_path, "tests/model")
    assert done.returncode == 1
    assert "empty_rows failed: 0.25 > 0.02 share of rows, limit by default" in done.stdout
    assert "Fix: look at what sends them" in done.stdout
    assert "Traceback" not in done.stdout
    assert "acceptance.py" not in done.stdout
    assert "0 of 1 verdicts are passed" in done.stdout


def test_under_plain_pytest_errors_are_lines_and_no_file_is_written(tmp_path):
    project.write(tmp_path, {"test_rows.py": OWN_GATE}, policy="gatez: {}")
    done = pytest_in(tmp_path, "tests/model")
    assert "gates.yaml: gatez: unknown key" in done.stdout
    assert "errors.py" not in done.stdout
    (tmp_path / "gates.yaml").unlink()
    (tmp_path / "params.yaml").unlink()
    assert "params.yaml: no such file" in pytest_in(tmp_path, "tests/model").stdout
    assert not (tmp_path / "gates").exists()


def test_inconclusive_verdict_passes_its_test_and_is_listed(tmp_path):
    test = "from ci_tools.gates import gate, unmeasured\n\n@gate(limit=1, unit='')\ndef blind():\n"
    test += "    return unmeasured('it was dark')\n\ndef test_blind(policy):\n    policy.require(blind())\n"
    project.write(tmp_path, {"test_blind.py": test}, policy="{}")
    done = pytest_in(tmp_path, "tests/model")
    assert done.returncode == 0
    assert "blind inconclusive\n  it was dark" in done.stdout


@gate(limit=1.0, unit="", floor=0.0, calibrated=True)
def calibrated():
    return Reading(statistic=0.0, diagnosis="")


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 3, 4, 5, 6)])
def test_budget_of_false_alarms_is_shared_by_the_seeds_that_are_judged(tmp_path, monkeypatch, seeds):
    monkeypatch.chdir(tmp_path)
    known = Calibration(
        params_digest="p", fingerprint={}, commit="", date="", seeds=tuple(range(1001, 1021)),
        statistics={"calibrated": tuple(i / 100 for i in range(20))}, reference=Reference(samples=(), loss=()),
    )  # fmt: skip
    calibration.save(known)
    meta = RunMeta(
        schema_version=SCHEMA_VERSION, id="t", status="finished", command=[], workdir=".", seed=1, params={},
        params_digest="p", git_commit="", git_dirty=False, code={}, code_digest="", data={}, fingerprint={},
        probe_every=1, checkpoint_every=1, started="",
    )  # fmt: skip
    here, there = ([root / f"runs/seed-{seed}" for seed in range(1, 7)] for root in (tmp_path, tmp_path / "elsewhere"))
    for record in (*here, *there):
        record.mkdir(parents=True)
        (record / "run.json").write_text(meta.text())
    test = (
        "from tests.gates.test_plugin import calibrated\n\n"
        "def test_told(policy):\n    print('threshold', policy.require(calibrated()).threshold)\n"
    )
    project.write(tmp_path, {"test_told.py": test}, policy="false_alarms: 0.2\n")
    limits = {count: known.limit(calibrated(), 0.2 / count) for count in (2, 6)}
    assert limits[2] < limits[6]
    options = ["--switchback-run-root", "elsewhere", "--switchback-run-seeds", ",".join(map(str, seeds))]
    done = pytest_in(tmp_path, "-s", "tests/model", *options)
    assert f"threshold {limits[len(seeds)]}" in done.stdout


def test_in_other_projects_it_costs_and_changes_nothing(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys, pytest\n\n@pytest.fixture\ndef run():\n    return 'ours'\n\n"
        "def test_own_fixture_of_the_same_name(run):\n    assert run == 'ours'\n\n"
        "def test_nothing_heavy_was_imported():\n"
        "    assert 'ci_tools.gates.plugin' in sys.modules\n"
        "    heavy = {'numpy', 'pyarrow', 'pydantic', 'scipy', 'rich', 'typer', 'ci_tools.gates.acceptance'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "verdicts" not in done.stdout
