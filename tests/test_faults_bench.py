"""The bench of planted faults: campaigns that go on where they were, and rates that count right."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as command
from benchmarks import faults
from benchmarks.faults import campaign, plants, score, tasks
from benchmarks.faults.campaign import CALIBRATION, CLEAN, FAULT, LOOK_ALIKE, Cell, Plan
from ci_tools.errors import DataError
from ci_tools.gates.convergence import reference_of
from ci_tools.gates.verdict import Outcome
from tests.test_faults_bench_plants import one_thread as one_thread

# -- campaign -------------------------------------------------------------------------------------------------------


def test_full_campaign_is_as_large_as_it_must_be():
    cells = campaign.FULL.cells()
    assert len(set(cells)) == len(cells)
    assert sum(cell.kind == CLEAN for cell in cells) >= 1000
    assert sum(cell.kind == LOOK_ALIKE for cell in cells) >= 8 * 6 * 6
    per_cell = {}
    for cell in cells:
        if cell.kind == FAULT:
            per_cell.setdefault((cell.name, cell.task, cell.severity), set()).add(cell.seed)
    assert len(per_cell) >= 10 * 6 * 3
    assert min(map(len, per_cell.values())) >= 20


def test_calibration_seeds_are_used_for_nothing_else():
    assert max(cell.seed for cell in campaign.FULL.cells()) < campaign.FIRST_CALIBRATION_SEED


def test_line_holds_every_gate_and_survives_json(tmp_path):
    reference = reference_of([tasks.run("linear", 5, None, tmp_path).training])
    cell = Cell(FAULT, "checkpoint_corruption", "linear", "strong", 0)
    (line,) = campaign.measure(cell, reference)
    assert set(plants.MODES) <= set(line["gates"])
    assert line["gates"]["checkpoint_corruption"]["statistic"] > 0
    again = json.loads(json.dumps(line))
    assert {name: again[name] for name in vars(cell)} == vars(cell)
    assert not Path("/dev/shm/linear-0").exists()


def test_calibration_holds_each_run_against_the_others(tmp_path):
    lines = campaign.calibrate("linear", range(1000, 1003))
    *runs, reference = lines
    assert [line["kind"] for line in runs] == [CALIBRATION] * 3
    trainings = [tasks.run("linear", seed, None, tmp_path / str(seed)).training for seed in range(1000, 1003)]
    assert reference["loss"] == pytest.approx(reference_of(trainings).loss)
    own = campaign.slow_convergence(trainings[0], reference_of(trainings[1:])).reading.statistic
    assert runs[0]["gates"]["slow_convergence"]["statistic"] == pytest.approx(own)


def test_stopped_campaign_goes_on_where_it_was(tmp_path, monkeypatch):
    made = []

    class Here:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, function, *arguments):
            from concurrent.futures import Future

            made.append(arguments)
            future = Future()
            future.set_result(function(*arguments))
            return future

    def fake_measure(cell, reference):
        return [vars(cell) | {"gates": {}}]

    def fake_calibrate(task, seeds):
        return [{"kind": "reference", "task": task, "samples": [32], "loss": [1.0]}]

    monkeypatch.setattr(campaign, "_pool", lambda workers: Here())
    monkeypatch.setattr(campaign, "measure", fake_measure)
    monkeypatch.setattr(campaign, "calibrate", fake_calibrate)
    monkeypatch.setattr(campaign, "progress", _silent)
    plan, path = Plan(calibration=2, clean=1, fault=1, look_alike=1), tmp_path / "runs.jsonl"
    whole = campaign.run(plan, path, 1)
    assert len(whole) == len(made) == 7 + len(plan.cells())
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    made.clear()
    assert campaign.run(plan, path, 1)[:-1] == whole[:-1]
    assert len(made) == 1
    assert path.read_bytes() == data
    made.clear()
    campaign.run(plan, path, 1)
    assert not made


ONE_WORKER = """
import os, time
from benchmarks.faults import campaign

if __name__ == "__main__":
    with campaign._pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_killed_campaign(tmp_path):
    script = tmp_path / "one_worker.py"
    script.write_text(ONE_WORKER)
    environment = os.environ | {"PYTHONPATH": str(command.ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as process:
        worker = int(process.stdout.readline())
        assert psutil.pid_exists(worker)
        process.kill()
    for _ in range(200):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    psutil.Process(worker).kill()
    pytest.fail("the worker lives on")


def test_runs_of_other_code_are_not_mixed_in(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"kind": "reference", "task": "linear", "code": "another"}) + "\n")
    with pytest.raises(DataError, match="other code"):
        campaign.run(Plan(calibration=1, clean=1, fault=1, look_alike=1), path, 1)
    assert path.read_text().count("\n") == 1


def _silent(total, title):
    from contextlib import nullcontext
    from types import SimpleNamespace

    return nullcontext(SimpleNamespace(update=lambda *_: None))


# -- score ----------------------------------------------------------------------------------------------------------


def line(kind, name, statistics, seed=0, task="linear", severity="", explained=0.9, calibrated=True):
    gates = {
        gate: {"statistic": value, "interval": None, "limit": 10.0, "floor": 0.0, "calibrated": calibrated, "error": ""}
        for gate, value in statistics.items()
    }
    return {
        **{"kind": kind, "name": name, "task": task, "severity": severity, "seed": seed, "how": "some"},
        **{"explained": explained, "step_ms": 2.0 if kind == FAULT else 1.0, "gates": gates},
    }


@pytest.fixture
def lines():
    clean_runs = [line(CALIBRATION, "", {"divergence": i / 10, "overfitting": 1.0}, seed=1000 + i) for i in range(10)]
    return [
        *clean_runs,
        {"kind": "reference", "task": "linear", "samples": [32], "loss": [1.0]},
        *[line(CALIBRATION, "", {"divergence": 9.0, "overfitting": 1.0}, task="digits", seed=i) for i in (1000, 1001)],
        *[line(CALIBRATION, "", {"divergence": i / 10, "overfitting": 1.0}, task="digits", seed=i) for i in range(20)],
        {"kind": "reference", "task": "digits", "samples": [32], "loss": [1.0]},
        line(CLEAN, "", {"divergence": 0.5, "overfitting": 1.0}),
        line(CLEAN, "", {"divergence": 7.0, "overfitting": 1.0}, seed=1),
        line(FAULT, "divergence", {"divergence": 20.0, "overfitting": 1.0}, severity="mild", explained=-math.inf),
        line(FAULT, "divergence", {"divergence": 8.0, "overfitting": 30.0}, severity="mild", seed=1, explained=0.4),
        line(FAULT, "overfitting", {"divergence": 11.0, "overfitting": 30.0}, severity="mild", explained=0.3),
        line(LOOK_ALIKE, "warm_up", {"divergence": math.nan, "overfitting": 1.0}),
    ]


def test_rates_by_the_gates_own_limits(lines):
    found = score.rates(score.judged(lines, None))
    hits = {name: (rate["hits"], rate["of"]) for name, rate in found["detected"].items()}
    assert hits == {"divergence": (1, 2), "overfitting": (1, 1), "all": (2, 3)}
    assert found["named"]["overfitting"]["hits"] == 0
    assert found["confusion"]["divergence"] == {"divergence": 1, "overfitting": 1}
    assert found["false alarms on clean runs"]["all"]["hits"] == 0
    alike = found["false alarms on look-alikes"]["all"]
    assert alike == pytest.approx({"hits": 0, "of": 1, "low": 0.0, "high": 0.793451}, abs=1e-5)


def test_rates_by_calibrated_limits(lines):
    found = score.rates(score.judged(lines, score.judges(lines)))
    assert found["detected"]["divergence"]["hits"] == 2
    assert found["false alarms on clean runs"]["all"]["hits"] == 1
    assert found["false alarms by gate"][CLEAN] == {"divergence": 1}
    assert found["confusion"][CLEAN] == {"none": 1, "divergence": 1}


def test_a_gate_that_a_clean_run_leaves_unmeasured_is_not_calibrated(lines):
    lines[0]["gates"]["divergence"]["statistic"] = math.nan
    found = score.rates(score.judged(lines, score.judges(lines)))
    assert found["false alarms on clean runs"]["all"]["hits"] == 0


def test_without_calibration_there_is_no_reference(lines):
    for one in lines:
        if one["kind"] != "reference":
            numbers = one["gates"]["overfitting"]
            one["gates"] |= {"slow_convergence": numbers | {"statistic": 99.0}, campaign.ALONE: numbers}
    plain = score.judged(lines, None)
    assert not any("slow_convergence" in run.failed for run in plain if run.line["kind"] == CLEAN)
    assert all(campaign.ALONE not in run.failed for run in plain)
    assert score.judged(lines, score.judges(lines))[0].line["kind"] == CLEAN


def test_effects_are_taken_against_the_clean_twin(lines):
    found = score.effects(lines)
    assert found["divergence, mild"] == {"explained lost": pytest.approx(0.7), "step time": 2.0}
    assert found["overfitting, mild"]["explained lost"] == pytest.approx(0.6)


def test_tables_show_each_mode_and_each_confusion(lines):
    text = score.markdown(score.rates(score.judged(lines, None)))
    assert "| divergence | 2 | 50.0 % | 9.5 to 90.5 | 50.0 % | 9.5 to 90.5 |" in text
    assert "| clean runs | 2 | 0.0 % | 0.0 to 65.8 |" in text
    assert "| divergence | 1 | 1 |  |" in text
    json.dumps(score.details(score.judged(lines, None)))


def test_calibration_is_not_used_on_look_alikes_made_by_other_params(lines):
    alike = [line(LOOK_ALIKE, name, {"divergence": 5.0, "overfitting": 1.0}) for name in ("warm_up", "hard_class")]
    found = score.judged([*lines[:-1], *alike], score.judges(lines))
    assert [one.failed for one in found if one.line["kind"] == LOOK_ALIKE] == [(), ("divergence",)]


def test_runs_whose_steps_are_timed_come_one_at_a_time():
    plan, task = (
        Plan(calibration=2, clean=1, fault=1, look_alike=1),
        {"kind": "reference", "samples": [1], "loss": [1.0]},
    )
    lines = [task | {"task": name} for name in tasks.TASKS]
    timed = [job[1] for job in campaign._timed_runs(plan, lines)]
    assert {cell.kind for cell in timed} == {CLEAN, FAULT, LOOK_ALIKE}
    assert {cell.name for cell in timed if cell.kind == FAULT} == {"stragglers"}
    assert len(timed) < len(campaign._runs(plan, lines)) == len(plan.cells())


def test_limits_of_other_tasks_are_theirs(lines):
    own, others = (score.judges(lines, strangers=flag)["linear"] for flag in (False, True))
    clean = next(one for one in lines if one["kind"] == CLEAN and one["seed"] == 1)
    found = [one.verdict(score.measurement("divergence", clean["gates"]["divergence"])) for one in (own, others)]
    assert [one.outcome for one in found] == [Outcome.FAILED, Outcome.PASSED]
    assert found[1].threshold >= 9.0


def test_rescoring_needs_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(faults, "RUNS", tmp_path)
    with pytest.raises(DataError, match="no runs to judge"):
        faults.main(command.parse(["faults", "--rescore"]))


def test_rescoring_judges_what_is_there(monkeypatch, tmp_path, lines, capsys):
    monkeypatch.setattr(faults, "RUNS", tmp_path)
    (tmp_path / "quick.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    result = faults.main(command.parse(["faults", "--quick", "--rescore"]))
    assert result.facts["calibrated"]["detected"]["divergence"]["hits"] == 2
    assert "| divergence | 2 |" in capsys.readouterr().out
    assert (tmp_path / "details.json").is_file()


def test_rescoring_takes_the_limits_of_today_but_those_of_a_reading():
    kept = line(CLEAN, "", {"divergence": 1.0, campaign.ALONE: 0.5})
    kept["gates"]["slow_convergence"] = kept["gates"]["divergence"] | {"calibrated": False}
    (found,) = campaign.with_limits_of_today([kept])
    limits = {name: numbers["limit"] for name, numbers in found["gates"].items()}
    assert limits == {"divergence": campaign.GATES["divergence"].limit, campaign.ALONE: 10.0, "slow_convergence": 10.0}
    assert found["gates"]["divergence"]["statistic"] == 1.0
