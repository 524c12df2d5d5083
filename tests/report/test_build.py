import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from ci_tools.errors import DataError
from ci_tools.gates import Outcome
from ci_tools.gates.policy import Metric as PolicyMetric
from ci_tools.gates.policy import Policy
from ci_tools.record import open_record
from ci_tools.report import build as building
from ci_tools.report import quality
from ci_tools.report import results as schema
from ci_tools.report.build import build
from ci_tools.report.comment import render
from ci_tools.report.results import Fact, Metric, PolicyChange, PolicyFile, Stage
from ci_tools.walk import Step, Walk, remember
from tests.report.hostile import STRINGS
from tests.report.left import COMMIT, judge, store, verdict
from tests.report.parsed import skeleton


def test_results_of_a_run_can_be_written_and_read(run):
    made = build(run)
    assert schema.write(made, run / "results.json") == schema.read(run / "results.json") == made
    assert (made.head_sha, made.commit, made.pull_request) == (COMMIT, COMMIT, None)
    assert made.fingerprint == {"gpu": "A10, A10"}


def test_runs_tell_their_gpus_time_and_energy(run):
    assert [(one.seed, one.status, one.gpus, one.train_seconds, one.joules) for one in build(run).runs] == [
        (3, "finished", 2, 90.0, 50.0),
        (4, "finished", 2, 90.0, 50.0),
    ]


@pytest.mark.parametrize("damage", ["missing", "partial"])
def test_record_that_cannot_be_read_is_told_and_the_rest_reported(run, damage):
    meta = run / "runs/seed-4/run.json"
    meta.unlink() if damage == "missing" else meta.write_text(meta.read_text()[:100])
    made = build(run)
    assert [one.status for one in made.runs] == ["finished", "unreadable"]
    assert made.curves[0].seeds == 1


@pytest.mark.parametrize(
    ("file", "change", "key"),
    [
        ("runs/seed-4/run.json", {"train_seconds": 1e13}, "train_seconds"),
        ("runs/seed-4/run.json", {"energy_joules": -1.0}, "joules"),
        ("runs/seed-4/run.json", {"total_steps": 10**30}, "total_steps"),
        ("runs/seed-3/run.json", {"code_digest": "none"}, "code_digest"),
        ("gates/verdicts.json", {"commit": "HEAD"}, "head_sha"),
        ("gates/verdicts.json", {"seconds": 1e13}, "gate_seconds"),
    ],
)
def test_value_that_no_report_can_hold_is_told_with_its_file(run, file, change, key):
    store(run / file, json.loads((run / file).read_text()) | change)
    with pytest.raises(DataError, match=key) as refused:
        build(run)
    assert str(refused.value).startswith(f"{run / file}: ")


def test_seed_that_no_report_can_hold_is_told_with_params(run):
    (run / "params.yaml").write_text(f"seeds: [{10**30}]\n")
    with pytest.raises(DataError, match=r"params\.yaml: seed"):
        build(run)


@pytest.mark.parametrize("number", ["NaN", "-1", "1e13"])
def test_damaged_memory_of_the_pipeline_costs_the_report_some_numbers_only(run, number):
    remember(Walk((Step("data", "ran", (), 21.0),), 21.0), run)
    text = (run / ".switchback/walk.json").read_text()
    (run / ".switchback/walk.json").write_text(text.replace("21.0", number))
    made = build(run)
    assert (made.pipeline_seconds, made.stages) == (None, ())


@pytest.mark.parametrize("rows", [10**30, -1, True, 1.5, "900"])
def test_slice_whose_rows_are_no_count_says_nothing_of_them(run, rows):
    channel = {"web": {"n": rows, "seeds": {"3": {"average_precision": 0.6}}}}
    store(run / "evaluation/slices.json", {"channel": channel})
    evidence = {"worst slices": {"channel=web": [0.05, 0.01, 0.09]}}
    judge(run, verdict("slices_against_main", subject="average_precision, channel=web", evidence=evidence))
    assert build(run).slices[0].rows is None


def test_integers_beyond_all_floats_are_left_out(run):
    judge(run, verdict(evidence={"big": 10**400, "step": 3}))
    store(run / "evaluation/metrics.json", {"release": {"average_precision": 10**400}, "seeds": {}})
    made = build(run)
    assert made.verdicts[0].facts == (Fact(name="step", value=3.0),)
    assert made.metrics[0].here is None


def test_metric_that_only_training_measured_is_told_by_its_name_whether_or_not_it_is_judged(run):
    (run / "evaluation/metrics.json").unlink()
    for seed, accuracy in ((3, 0.9), (4, 0.8)):
        store(run / f"runs/seed-{seed}/metrics.json", {"average_precision": 0.7, "accuracy": accuracy})
    made = {metric.metric: metric for metric in build(run).metrics}
    assert list(made) == ["average_precision", "log_loss", "accuracy"]
    assert (made["accuracy"].here, made["accuracy"].sd) == (pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4))
    assert (made["average_precision"].here, made["log_loss"].here, made["accuracy"].seeds) == (0.7, None, 2)


def test_names_of_metrics_that_training_chose_are_shown_as_code_only(run):
    def told(names):
        store(run / "runs/seed-3/metrics.json", dict.fromkeys(names, 0.5))
        made = build(run)
        assert {metric.metric for metric in made.metrics} > set(map(schema.name, names))
        return skeleton(render(made))

    for first in range(0, len(STRINGS), 20):
        hostile = STRINGS[first : first + 20]
        assert told(hostile) == told([f"harmless {i}" for i in range(len(hostile))])


def test_verdict_on_no_metric_makes_no_row(run):
    nothing = {"outcome": Outcome.INCONCLUSIVE, "statistic": None}
    judge(run, *(verdict("quality_against_main", subject=subject, **nothing) for subject in ("", "any metric")))
    assert {metric.metric for metric in build(run).metrics} == {"average_precision", "log_loss", "roc_auc"}


@pytest.mark.parametrize("n", [-1, 10**30, "2", 1.5, None])
def test_number_of_seeds_that_cannot_be_is_that_of_the_run(run, n):
    store(run / "evaluation/metrics.json", {"seeds": {"roc_auc": {"mean": 0.5, "n": n}}})
    assert next(metric for metric in build(run).metrics if metric.metric == "roc_auc").seeds == 2


@pytest.mark.parametrize("file", ["evaluation/metrics.json", "evaluation/slices.json", ".switchback/walk.json"])
def test_file_nested_without_end_is_as_good_as_none(run, file):
    store(run / file, {})
    (run / file).write_text("[" * 100_000)
    assert build(run).exit_code == 0


def test_slices_are_told_by_the_first_metric_of_gates_yaml_that_they_have():
    settings = Policy(metrics={"log_loss": PolicyMetric(), "roc_auc": PolicyMetric()})
    rows = [{"seeds": {"1": {"accuracy": 0.5, "roc_auc": 0.6}}}, {"release": {"roc_auc": 0.5}}]
    assert quality.slice_metric(settings, rows) == "roc_auc"
    assert quality.slice_metric(Policy(), rows) == "accuracy"
    assert quality.slice_metric(settings, [{"release": None}]) == ""


def test_trace_that_cannot_be_read_has_no_curve(run):
    for seed in (3, 4):
        (run / f"runs/seed-{seed}/trace.arrows").write_bytes(b"")
    assert build(run).curves == ()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema_version": 9}', "[" * 100_000])
def test_missing_or_foreign_verdicts_are_one_sentence(run, text):
    path = run / "gates/verdicts.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match="switchback gate"):
        build(run)


def test_verdicts_of_which_a_pass_blocks_are_one_sentence(run):
    path = run / "gates/verdicts.json"
    path.write_text(path.read_text().replace('"blocks": false', '"blocks": true'))
    with pytest.raises(DataError, match=r"verdicts\.json: .*what passed blocks nothing"):
        build(run)


def test_verdicts_with_values_that_no_report_can_hold_are_one_sentence(run):
    judge(run, verdict(), params_digest="not a digest")
    with pytest.raises(DataError, match="params_digest"):
        build(run)


def test_nothing_but_verdicts_is_enough(tmp_path):
    judge(tmp_path, verdict())
    made = build(tmp_path)
    assert (made.runs, made.curves, made.metrics, made.stages) == ((), (), (), ())
    assert made.exit_code == 0


def test_no_sentence_crosses(run):
    judge(run, verdict(diagnosis="SENTENCE", remedy="SENTENCE", unit="SENTENCE", basis="SENTENCE",
                       evidence={"why": "SENTENCE", "list": ["SENTENCE"], "of": {"SENTENCE": 1}}),
          selection="SENTENCE")  # fmt: skip
    assert "SENTENCE" not in build(run).model_dump_json()


def test_numbers_of_the_evidence_cross_and_what_it_names(run):
    column = {"column": "amount", "split": "test", "size": 0.3}
    evidence = {"step": 210, "ratio": 1.5, "open": math.inf, "known": True, "layer": "input.weight", "steps": [90, 60]}
    judge(run, verdict(evidence={**evidence, "columns": [column, {"column": "other"}]}))
    (one,) = build(run).verdicts
    assert one.facts == (
        Fact(name="column", value="amount"),
        Fact(name="split", value="test"),
        Fact(name="size", value=0.3),
        Fact(name="first step", value=60.0),
        Fact(name="step", value=210.0),
        Fact(name="ratio", value=1.5),
        Fact(name="layer", value="input.weight"),
    )


@pytest.mark.parametrize(
    ("basis", "known"),
    [
        ("default", "default"),
        ("default: no calibration.json", "uncalibrated"),
        ("gates.yaml", "gates.yaml"),
        ("calibrated on 20 clean runs", "calibrated"),
        ("", "none"),
    ],
)
def test_basis_of_a_limit_becomes_one_word(run, basis, known):
    judge(run, verdict(basis=basis))
    assert build(run).verdicts[0].basis == known


def test_open_interval_stays_open(run):
    judge(run, verdict(interval=(0.2, math.inf)))
    assert build(run).verdicts[0].interval == (0.2, None)


def test_test_that_did_not_end_is_an_error(run):
    judge(run, verdict(), pending=(verdict(outcome=Outcome.ERROR, blocks=True, statistic=None),))
    assert build(run).exit_code == 2


def against(metric, lost, interval, **evidence):
    return verdict("quality_against_main", subject=metric, statistic=lost, interval=interval, evidence=evidence)


def test_change_against_main_is_here_minus_main_in_the_metrics_own_unit(run):
    by_seed = {"here by seed": {"3": 0.79, "4": 0.8}, "main by seed": {"3": 0.78, "4": 0.78}}
    lower = {"here by seed": {"3": 0.03}, "main by seed": {"3": 0.02}}
    judge(
        run,
        against("average_precision", -0.015, (-0.02, -0.01), **by_seed, **{"confidence of the interval": 0.98}),
        against("log_loss", 0.01, (0.004, 0.016), **lower),
    )
    first, second, third = build(run).metrics
    assert first.change == pytest.approx(0.015)
    assert (first.interval, first.confidence, first.seeds, first.margin) == ((0.01, 0.02), 0.98, 2, 0.8)
    assert second.change == pytest.approx(0.01)
    assert (second.interval, second.higher_is_better) == ((0.004, 0.016), False)
    assert third == Metric(metric="roc_auc", higher_is_better=True, here=0.981, sd=0.004, seeds=2)


def test_scores_equal_to_those_of_main_are_no_change(run):
    judge(run, against("average_precision", 0.0, None))
    first = build(run).metrics[0]
    assert (first.change, first.interval) == (0.0, (0.0, 0.0))


def test_comparison_that_could_not_be_made_has_no_change(run):
    judge(run, verdict("quality_against_main", Outcome.INCONCLUSIVE, subject="average_precision", statistic=None))
    first = build(run).metrics[0]
    assert (first.here, first.change, first.outcome) == (0.791, None, Outcome.INCONCLUSIVE)


def test_slices_are_those_that_the_gate_found_worst(run):
    evidence = {"worst slices": {"channel=web": [0.05, 0.01, 0.09]}, "slices that failed": ["channel=web"]}
    judge(run, verdict("slices_against_main", subject="average_precision, channel=web", evidence=evidence))
    (one,) = build(run).slices
    assert (one.slice, one.rows, one.change, one.interval, one.failed) == (
        "channel=web",
        900,
        -0.05,
        (-0.09, -0.01),
        True,
    )


def test_without_a_comparison_the_lowest_of_the_large_slices_are_told(run):
    (one,) = build(run).slices
    assert (one.slice, one.metric, one.rows, one.change) == ("channel=web", "average_precision", 900, None)
    assert one.here == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("gates.yaml: gates.drift.blocks unset → false", PolicyChange(key="gates.drift.blocks", old=None, new=False)),
        (
            "gates.yaml: metrics.my own: metric.floor 0.9 → 0.5",
            PolicyChange(key="metrics.my own: metric.floor", old=0.9, new=0.5),
        ),
        (
            "gates.yaml: gates.a.inconclusive passes → blocks",
            PolicyChange(key="gates.a.inconclusive", old="passes", new="blocks"),
        ),
        (
            "release.yaml: at_deadline roll_back → hold",
            PolicyChange(file="release.yaml", key="at_deadline", old="roll_back", new="hold"),
        ),
        (
            "calibration.json: largest clean divergence 0.2 → 0.9",
            PolicyChange(file="calibration.json", key="largest clean divergence", old=0.2, new=0.9),
        ),
    ],
)
def test_policy_change_crosses_as_key_and_values(run, line, change):
    judge(run, verdict(), policy_changes=(line,), base="main")
    made = build(run)
    assert made.policy_changes == (change,)
    assert not made.policy_unreadable


@pytest.mark.parametrize(
    "line",
    ["gates.yaml: not valid YAML in 1234", "gates.yaml: a b → c d", "gates.yaml: x → nan", "x", "other.yaml: a 1 → 2"],
)
def test_policy_line_of_another_form_is_told_without_its_words(run, line):
    judge(run, verdict(), policy_changes=(line,), base="main")
    made = build(run)
    assert made.policy_changes == ()
    assert made.policy_unreadable


@pytest.mark.parametrize("became", ["new", "removed", "changed"])
def test_policy_file_that_differs_from_the_base_crosses_by_name(run, became):
    judge(run, verdict(), policy_changes=(f"tests/model/test: a.py: {became}",), base="main")
    made = build(run)
    assert made.policy_files == (PolicyFile(file="tests/model/test: a.py", became=became),)
    assert not made.policy_unreadable


def test_stages_know_their_last_real_run(run):
    steps = (Step("data", "cached", (), 0.1), Step("train@3", "restored", (), 0.2), Step("export", "cached", (), 0.1))
    remember(Walk((Step("data", "ran", (), 21.0),), 21.0), run)
    remember(Walk(steps, 0.4), run)
    made = build(run)
    assert made.pipeline_seconds == 0.4
    assert made.stages == (
        Stage(stage="data", outcome="cached", seconds=0.1, ran_seconds=21.0),
        Stage(stage="train@3", outcome="restored", seconds=0.2, ran_seconds=90.0),
        Stage(stage="export", outcome="cached", seconds=0.1, ran_seconds=None),
    )


def test_pull_request_comes_from_githubs_event(run, monkeypatch):
    repository = {"full_name": "team/risk"}
    head = {"sha": "f" * 40, "ref": "feature\n", "repo": repository}
    store(run / "event.json", {"repository": repository, "pull_request": {"number": 42, "head": head}})
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(run / "event.json"))
    made = build(run)
    assert (made.pull_request, made.head_sha, made.branch, made.commit) == (42, "f" * 40, "feature\ufffd", COMMIT)


def test_event_that_says_nothing_of_a_commit_is_passed_over(run, monkeypatch):
    store(run / "event.json", {"repository": {"full_name": "team/risk"}, "schedule": "0 0 * * *"})
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(run / "event.json"))
    assert build(run).head_sha == COMMIT


@pytest.mark.parametrize("text", ["{", '{"repository": 1}', None])
def test_damaged_event_is_an_error(run, monkeypatch, text):
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(run / "event.json"))
    if text:
        (run / "event.json").write_text(text)
    with pytest.raises(DataError, match=r"event\.json.*Fix: set GITHUB_EVENT_PATH"):
        build(run)


def test_curve_is_the_mean_over_seeds_of_the_finite_losses_of_each_part(run):
    loss, metric = build(run).curves
    losses = np.array([open_record(run / f"runs/seed-{s}").final_trace().column("loss").to_numpy() for s in (3, 4)])
    assert len(loss.step) == schema.CURVE_POINTS
    start = 0
    for step, mean in zip(loss.step, loss.mean, strict=True):
        part = losses[:, start : step + 1]
        expected = [seed[np.isfinite(seed)] for seed in part]
        known = [seed.mean() for seed in expected if len(seed)]
        assert mean == (pytest.approx(np.mean(known), rel=1e-5) if len(known) == 2 else None)
        start = step + 1
    assert (metric.name, metric.split, metric.step) == ("average_precision", "validation", (20, 40, 60))


def test_seeds_without_params_are_those_of_the_records(run):
    (run / "params.yaml").unlink()
    assert building.seeds_of(run) == [3, 4]


def test_what_has_no_room_is_counted(run):
    judge(run, *[verdict() for _ in range(310)])
    made = build(run)
    assert (len(made.verdicts), made.left_out) == (300, 10)


def test_building_needs_neither_git_nor_torch_nor_dvc(run):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['dvc'] = None\n"
        "from ci_tools.report import command\nfrom ci_tools.report.build import build\nprint(build().exit_code)"
    )
    environment = {"PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=run, capture_output=True, text=True, env=environment)
    assert done.stdout == "0\n", done.stderr
