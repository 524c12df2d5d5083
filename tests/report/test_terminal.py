import json
import math
import sys

import pytest

from ci_tools.report import terminal
from ci_tools.report.terminal import metric_table, parity_line, plain, sparkline, summarize


@pytest.fixture
def finished(tmp_path):
    """What the reference pipeline leaves behind, in small."""
    metrics = {
        "gradient_boosting": {"roc_auc": 0.97, "average_precision": 0.7},
        "release": {"average_precision": 0.65, "roc_auc": 0.96},
        "seeds": {"average_precision": {"mean": 0.64, "sd": 0.012, "min": 0.6, "max": 0.66}},
    }
    parity = {"score": 1.8e-7, "flips": 0, "nonfinite": 0, "tolerance": 1e-5, "sha256": "abc"}
    for path, values in (("evaluation/metrics.json", metrics), ("export/parity.json", parity)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(json.dumps(values))
    for seed, status in ((10, "finished"), (2, "preempted")):
        run = tmp_path / f"runs/seed-{seed}"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"status": status}))
        (run / "curves.csv").write_text("step,loss,lr,grad_norm\n0,0.8,1,1\n1,0.4,1,1\n2,0.1,1,1\n")
        (run / "evals.csv").write_text(
            "step,split,metric,value\n1,validation,roc_auc,0.5\n1,validation,average_precision,0.2\n"
            "2,validation,average_precision,0.6\n2,test,average_precision,0.9\n"
        )
    return tmp_path


def test_table_has_the_release_the_spread_and_every_other_model(finished):
    head, rows = metric_table(summarize(finished).metrics)
    assert head == ["metric", "release", "mean ± sd", "gradient boosting"]
    assert rows == [
        ["average precision", "0.6500", "0.6400 ± 0.0120", "0.7000"],
        ["roc auc", "0.9600", "", "0.9700"],
    ]


def test_plain_summary_shows_runs_in_order_with_their_curves(finished):
    text = "\n".join(plain(summarize(finished)))
    assert text.index("seed-2: preempted") < text.index("seed-10: finished")
    assert "0.8000 → 0.1000" in text
    assert "0.2000 → 0.6000" in text
    assert "largest score difference 1.8e-07, flipped decisions 0" in text
    assert f"files:\n  {finished / 'runs'}\n  {finished / 'evaluation/metrics.json'}" in text


def test_metrics_that_only_training_measured_are_shown_of_the_seeds_that_count(finished):
    (finished / "evaluation/metrics.json").unlink()
    for seed, accuracy in ((2, 0.9), (10, 0.7)):
        (finished / f"runs/seed-{seed}/metrics.json").write_text(json.dumps({"accuracy": accuracy}))
    assert metric_table(summarize(finished).metrics)[1] == [["accuracy", "0.9000", "0.8000 ± 0.1414"]]
    (finished / "params.yaml").write_text("seeds: [10]\n")
    assert metric_table(summarize(finished).metrics)[1] == [["accuracy", "0.7000", ""]]


def test_records_of_seeds_that_params_no_longer_list_are_left_out(finished):
    (finished / "runs/mine").mkdir()
    (finished / "runs/mine/run.json").write_text("{}")
    (finished / "params.yaml").write_text("seeds: [2]\n")
    assert [run.path.name for run in summarize(finished).runs] == ["mine", "seed-2"]
    (finished / "params.yaml").write_text("train: {}\n")
    assert len(summarize(finished).runs) == 3


def test_json_names_runs_and_files(finished):
    values = json.loads(json.dumps(summarize(finished).to_json()))
    assert [run["status"] for run in values["runs"]] == ["preempted", "finished"]
    assert values["metrics"]["release"]["roc_auc"] == 0.96


def test_pipeline_without_evaluation_or_export_shows_its_runs(finished):
    (finished / "evaluation/metrics.json").unlink()
    (finished / "export/parity.json").unlink()
    lines = plain(summarize(finished))
    assert lines[1].startswith("seed-2")
    assert not any("parity" in line or "metric" in line for line in lines)


def test_pipeline_that_left_nothing_says_so(tmp_path):
    assert plain(summarize(tmp_path)) == ["the pipeline left nothing that a summary could show"]


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"release": 3}', '{"seeds": {}}', "[" * 100_000])
def test_metrics_of_another_form_are_left_out(finished, text):
    (finished / "evaluation/metrics.json").write_text(text)
    assert metric_table(summarize(finished).metrics) == ([], [])


def test_numbers_that_no_float_holds_are_left_out(finished):
    release = {"roc_auc": 10**400, "average_precision": 0.5}
    seeds = {"roc_auc": 3, "average_precision": {"mean": 10**400, "sd": "x"}}
    (finished / "evaluation/metrics.json").write_text(json.dumps({"release": release, "seeds": seeds}))
    (finished / "export/parity.json").write_text(json.dumps({"score": 10**400, "flips": 2, "tolerance": "x"}))
    lines = plain(summarize(finished))
    assert lines[1:3] == ["roc auc", "average precision   0.5000"]
    assert "ONNX parity: flipped decisions 2" in lines
    (finished / "evaluation/metrics.json").write_text(json.dumps({"release": release, "seeds": []}))
    assert metric_table(summarize(finished).metrics)[1][1] == ["average precision", "0.5000", ""]


def test_damaged_run_is_shown_as_unreadable(finished):
    (finished / "runs/seed-2/run.json").write_text("{")
    (finished / "runs/seed-2/curves.csv").write_bytes(b"\xff\xff")
    run = summarize(finished).runs[0]
    assert (run.status, list(run.curves)) == ("unreadable", ["average precision"])


def test_terminal_gets_a_table_with_the_same_numbers(finished, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    terminal.show(summarize(finished))
    out = capsys.readouterr().out
    assert "0.6400 ± 0.0120" in out
    assert "ONNX parity" in out


def test_names_are_shown_as_they_are_and_do_nothing_to_the_terminal(finished, monkeypatch, capsys):
    """Training may call a metric anything: neither rich nor the terminal takes it for more than a name."""
    measured = {"f1[macro]": 0.5, "loss[/red]": 0.25, "\x1b[2Jgone": 0.125}
    (finished / "runs/seed-2/metrics.json").write_text(json.dumps(measured))
    monkeypatch.setattr(terminal, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    terminal.show(summarize(finished))
    for out in (capsys.readouterr().out, "\n".join(plain(summarize(finished)))):
        assert "f1[macro]" in out
        assert "loss[/red]" in out
        assert "\ufffd[2Jgone" in out


def test_metric_that_the_releases_run_lacks_is_shown_of_the_others(finished):
    (finished / "evaluation/metrics.json").unlink()
    (finished / "params.yaml").write_text("seeds: [1, 2, 10]\n")
    for seed, accuracy in ((2, 0.9), (10, 0.7)):
        (finished / f"runs/seed-{seed}/metrics.json").write_text(json.dumps({"accuracy": accuracy}))
    assert metric_table(summarize(finished).metrics)[1] == [["accuracy", "", "0.8000 ± 0.1414"]]


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([0, 7], "▁█"),
        (list(range(8)), "▁▂▃▄▅▆▇█"),
        ([3, 3, 3], "▁▁▁"),
        ([5], "▁"),
        ([0, math.nan, 1], "▁!█"),
        ([math.inf], "!"),
        ([], ""),
    ],
)
def test_sparkline(values, bars):
    assert sparkline(values) == bars


def test_sparkline_averages_a_long_curve_into_its_width():
    values = [step // 25 for step in range(200)]
    assert sparkline(values, width=8) == "▁▂▃▄▅▆▇█"


def test_parity_without_numbers_we_know_is_still_a_line():
    assert parity_line({"tolerance": 1e-5}) == "ONNX parity: tolerance 1e-05"
