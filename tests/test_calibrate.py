import importlib
import json
import pkgutil
import shutil

import numpy as np
import pytest

import ci_tools.gates
from ci_tools import calibrate, scratch
from ci_tools.errors import ConfigError, RecordError, RecordMismatch
from ci_tools.experiment import change
from ci_tools.gates import Gate, Reading, calibration, gate, unmeasured
from ci_tools.git import git
from ci_tools.record import open_record
from tests.record import toy

SEEDS = (11, 12, 13, 14, 15)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Five finished runs that differ in their seed only; tests copy what they change."""
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWITCHBACK_QUIET", "1")
        return [toy.train(folder / f"seed-{seed}", seed=seed) for seed in SEEDS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@gate(limit=5.0, floor=0.0, unit="", calibrated=True)
def last_loss(training):
    return Reading(statistic=float(training.loss_S[-1]), diagnosis="")


@gate(limit=1.0, floor=0.0, unit="", calibrated=True)
def against_reference(training, reference):
    return Reading(statistic=float(training.loss_S[-1]) - reference, diagnosis="")


@gate(limit=1.0, unit="", calibrated=True)
def blind(training):
    return unmeasured("sees nothing") if training.name == "seed-13" else Reading(statistic=1.0, diagnosis="")


def loss(path):
    return float(open_record(path).trace.column("loss")[-1].as_py())


def changed(path, folder, **values):
    """A copy of a record with other entries in run.json."""
    copy = shutil.copytree(path, folder / path.name)
    meta = json.loads((copy / "run.json").read_text()) | values
    (copy / "run.json").write_text(json.dumps(meta))
    return copy


def test_statistics_of_clean_runs_set_the_limit_for_the_budget(clean, monkeypatch, tmp_path):
    monkeypatch.setattr(calibrate, "calibrated_gates", lambda: [last_loss])
    (tmp_path / "gates.yaml").write_text("false_alarms: 0.5\n")
    result = calibrate.calibrate(0, clean)
    written = calibration.load()
    assert written == result.calibration
    expected = [loss(path) for path in clean]
    assert written.statistics == {"last_loss": tuple(expected)}
    assert (written.seeds, written.params_digest) == (SEEDS, open_record(clean[0]).meta.params_digest)
    assert written.mismatch(written.params_digest, open_record(clean[4]).meta.fingerprint) == ""
    (line,) = result.lines
    assert (line.runs, line.largest, line.default) == (5, max(expected), 5.0)
    # one half of the budget: exceeded by a further draw with probability 1/2
    assert line.limit == pytest.approx(np.quantile(expected, 0.5, method="higher"), abs=1e-12)


def test_no_run_is_held_against_a_reference_of_which_it_is_part(clean, monkeypatch):
    monkeypatch.setattr(calibrate, "calibrated_gates", lambda: [against_reference])
    monkeypatch.setattr(
        calibrate, "reference_of", lambda trainings: float(np.mean([one.loss_S[-1] for one in trainings]))
    )
    trainings = [calibrate.training.read(open_record(path)) for path in clean]
    measured = [
        against_reference(*subject).reading.statistic
        for subject in calibrate._subjects(against_reference, trainings, [None] * len(trainings))
    ]
    losses = np.array([loss(path) for path in clean])
    others = (losses.sum() - losses) / 4
    assert measured == pytest.approx(losses - others, abs=1e-6)


def test_gate_that_cannot_measure_one_run_keeps_its_default(clean, monkeypatch):
    monkeypatch.setattr(calibrate, "calibrated_gates", lambda: [blind, last_loss])
    result = calibrate.calibrate(0, clean)
    assert set(result.calibration.statistics) == {"last_loss"}
    assert result.budget == 0.01, "it is shared by the gates that are calibrated"
    line = result.lines[0]
    assert (line.runs, line.limit, line.why_not) == (4, None, "sees nothing")
    assert "blind keeps its default: sees nothing" in result.render()
    assert result.to_json()["gates"][0]["largest"] is None


def test_real_gates_are_found_and_calibrated_on_real_runs(clean):
    result = calibrate.calibrate(0, clean)
    known = {gate.name for gate in calibrate.calibrated_gates()}
    assert {"divergence", "vanishing_gradients", "slow_convergence", "overfitting"} <= known
    assert {line.gate for line in result.lines} == known
    assert "divergence" in result.calibration.statistics
    assert len(result.calibration.reference.samples) == len(result.calibration.reference.loss) > 1
    assert calibration.load() == result.calibration


def test_no_calibrated_gate_over_a_training_run_is_forgotten():
    found = set()
    for module in pkgutil.iter_modules(ci_tools.gates.__path__):
        values = vars(importlib.import_module(f"ci_tools.gates.{module.name}")).values()
        found |= {
            g.name for g in values if isinstance(g, Gate) and g.calibrated and "training" in calibrate._parameters(g)
        }
    assert found == {gate.name for gate in calibrate.calibrated_gates()}


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"status": "preempted"}, RecordError, "training is preempted"),
        ({"params_digest": "other"}, RecordMismatch, "other params"),
        ({"fingerprint": {"cpu": "other"}}, RecordMismatch, "another stack"),
        ({"seed": 11}, RecordMismatch, "seed 11 like another"),
        ({"recoveries": [{"onset_step": 7, "from_step": 0, "reason": ""}]}, RecordError, "diverged at step 7"),
    ],
)
def test_record_that_is_unlike_the_others_is_refused(clean, tmp_path, values, error, message):
    records = [*clean[:4], changed(clean[4], tmp_path, **values)]
    with pytest.raises(error, match=rf"seed-15: .*{message}"):
        calibrate.calibrate(0, records)
    assert not calibration.FILE.exists()


def test_too_few_runs_are_refused(clean):
    with pytest.raises(ConfigError, match="4 clean runs"):
        calibrate.calibrate(20, clean[:4])


def test_missing_record_is_one_clear_error(clean):
    with pytest.raises(RecordError, match="no run record"):
        calibrate.calibrate(0, [*clean[:4], "absent"])


def test_clean_runs_are_trained_by_the_pipelines_own_stage_with_seeds_of_their_own(repository):
    change(["seeds=[1, 1002]", "train.steps=30"])
    stages = (repository / "dvc.yaml").read_text().replace("  train:\n", "  fit:\n")
    (repository / "dvc.yaml").write_text(stages + "  after: {cmd: echo after >> ran.log, deps: [doubled/text]}\n")
    params = (repository / "params.yaml").read_text()
    records = calibrate.train(2, scratch.snapshot())
    assert [open_record(path).meta.seed for path in records] == [1001, 1003]
    assert [open_record(path).meta.params["steps"] for path in records] == [30, 30]
    copy = records[0].parents[1]
    assert (copy / "ran.log").read_text().splitlines() == ["double", "train 1001 starts", "train 1003 starts"]
    calibrate.train(3, scratch.snapshot())
    assert (copy / "ran.log").read_text().splitlines()[3:] == ["train 1004 starts"], "finished runs are kept"
    assert (repository / "params.yaml").read_text() == params
    assert not (repository / "runs").exists()


@pytest.mark.parametrize("changed", [False, True])
def test_calibration_names_the_commit_that_others_have_and_whether_files_differed(
    clean, repository, monkeypatch, changed
):
    trained = []
    monkeypatch.setattr(calibrate, "calibrated_gates", lambda: [last_loss])
    monkeypatch.setattr(calibrate, "train", lambda runs, commit: trained.append(commit) or clean)
    if changed:
        (repository / "input.txt").write_text("two\n")
    head = git("rev-parse", "HEAD")
    calibrate.calibrate(5)
    assert (calibration.load().commit, calibration.load().dirty) == (head, changed)
    assert (trained == [head]) == (not changed)


def test_calibration_on_given_records_names_their_commit(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "calibrated_gates", lambda: [last_loss])
    first = changed(clean[0], tmp_path, git_commit="c0ffee", git_dirty=False)
    last = changed(clean[4], tmp_path, git_commit="c0ffee", git_dirty=True)
    calibrate.calibrate(0, [first, *clean[1:4], last])
    assert (calibration.load().commit, calibration.load().dirty) == ("c0ffee", True)


def test_pipeline_without_a_training_stage_is_one_clear_error(repository):
    (repository / "dvc.yaml").write_text("stages:\n  a: {cmd: 'true', outs: [x]}\n")
    with pytest.raises(ConfigError, match=r"dvc\.yaml: no stage writes runs/seed-N"):
        calibrate.train(5, "HEAD")


def test_command_prints_the_table_and_json(clean, monkeypatch, capfd):
    from ci_tools import cli

    for arguments in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["switchback", "calibrate", *map(str, clean), *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    table, _, rest = capfd.readouterr().out.partition("{")
    assert table.split()[:5] == ["gate", "runs", "largest", "limit", "default"]
    assert "wrote calibration.json" in table
    assert json.loads("{" + rest)["seeds"] == list(SEEDS)


def test_labels_come_from_the_pipeline_that_a_record_stands_in(clean, tmp_path):
    @gate(limit=1.0, unit="", calibrated=True)
    def labelled(training, label_N=None):
        return Reading(statistic=-1.0 if label_N is None else float(label_N.sum()), diagnosis="d")

    record = open_record(shutil.copytree(clean[0], tmp_path / "runs/seed-1"))
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/train.npz", label=np.array([1.0, 1.0, 0.0]), numeric=np.zeros((3, 2)))
    records = [record, open_record(clean[1])]
    labels = [calibrate._labels(one) for one in records]
    trainings = [calibrate.training.read(one) for one in records]
    subjects = calibrate._subjects(labelled, trainings, labels)
    assert [labelled(*subject).reading.statistic for subject in subjects] == [2.0, -1.0]
