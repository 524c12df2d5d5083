import json

import pytest

from ci_tools.report.html import origin, records
from tests.report.html import cases


@pytest.fixture
def run(tmp_path):
    return cases.pipeline(tmp_path, seeds=(1, 2), steps=40)


def edit(run, seed, **values):
    path = run.root / f"runs/seed-{seed}/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_cost_is_that_of_the_records(run):
    edit(run, 1, energy_joules=7200.0)
    first, second = origin.costs(records.read(run))
    assert (first.seconds, first.elapsed, first.steps, first.planned) == (0.4, 3600.0, 40, 40)
    assert 5 < first.step_ms < 15
    assert first.waiting == pytest.approx(0.05, rel=0.1)
    assert (first.joules, second.joules) == (7200.0, None)


def test_resumes_and_returns_are_told(run):
    edit(
        run,
        2,
        resumes=[{"at": "", "from_step": 10, "stack_changes": ["python"]}],
        recoveries=[{"onset_step": 30, "from_step": 20, "reason": "loss is NaN"}],
    )
    _, second = origin.costs(records.read(run))
    assert second.interruptions == (
        "taken up again at step 10 on another stack (python)",
        "diverged at step 30 (loss is NaN) and went back to step 20",
    )


def test_run_that_has_not_ended_has_no_elapsed_time(run):
    edit(run, 1, status="running", ended="", files={})
    assert origin.costs(records.read(run))[0].elapsed is None


def test_seeds_of_different_stacks_and_params_are_told(run):
    edit(run, 2, fingerprint={"python": "3.12", "gpu": "H200"}, params_digest="2" * 64)
    found = origin.origin(records.read(run), cases.verdicts(params_digest="0" * 64))
    assert found.differing == {"python": ["3.11", "3.12"], "gpu": ["none", "H200"], "cpu": ["made", "none"]}
    assert found.other_params
    assert found.device == "made"


def test_equal_seeds_differ_in_nothing(run):
    found = origin.origin(records.read(run), cases.verdicts(params_digest="0" * 64))
    assert not found.differing
    assert not found.other_params


def test_durations_and_energies_that_are_no_numbers_are_unknown(run):
    edit(run, 1, train_seconds=float("nan"), energy_joules=float("inf"))
    first, _ = origin.costs(records.read(run))
    assert (first.seconds, first.joules) == (0.0, None)
