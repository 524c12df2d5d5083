import errno
import json
import os
import subprocess
import sys

import pytest

from ci_tools import __version__, console
from ci_tools.errors import ConfigError, RecordError

MAIN = "from ci_tools.cli import main; main()"


class Verdict:
    def __init__(self, good):
        self.identical = self.ok = good

    def render(self):
        return "the sentence"

    def to_json(self):
        return {"good": self.ok}


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()


def raising(error):
    def call(*_, **__):
        raise error

    return call


def test_help_lists_the_commands_and_hides_internals(switchback):
    code, out, _ = switchback("--help")
    assert code == 0
    for command in ("run", "reproduce", "compare", "replay", "doctor", "schema", "bundle", "release", "serve"):
        assert f"\n  {command} " in out
    assert "fingerprint" not in out
    assert "..." not in out.split("Commands:")[1], "every command's line fits"


def test_version(switchback):
    assert switchback("--version") == (0, f"switchback {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["compare", "a"], ["run", "--nonsense"], ["replay"], []])
def test_wrong_use_exits_2(switchback, arguments):
    code, out, err = switchback(*arguments)
    assert code == 2
    assert "Usage" in out + err


def test_our_errors_become_one_line_and_an_exit_code(switchback, monkeypatch):
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(ConfigError("W", where="P", fix="F")))
    assert switchback("reproduce") == (2, "", "error: P: W. Fix: F\n")


def test_our_errors_are_an_object_for_a_machine(switchback, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(ConfigError("W")))
    code, out, _ = switchback("run", "--json")
    assert code == 2
    assert json.loads(out) == {"error": {"kind": "ConfigError", "message": "W", "exit_code": 2}}


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "free some disk space"), (errno.EROFS, "writable"), (errno.EIO, "error: x")]
)
def test_system_errors_become_one_line(switchback, monkeypatch, number, message):
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(OSError(number, os.strerror(number), "x")))
    code, _, err = switchback("reproduce")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_missing_package_is_named_with_the_fix(switchback, monkeypatch):
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(ModuleNotFoundError("No module", name="dvc.repo")))
    code, _, err = switchback("reproduce")
    assert code == 4
    assert "package dvc" in err
    assert "pip install" in err


def test_broken_policy_is_refused_before_anything_is_trained(switchback, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gates.yaml").write_text("gates: [\n")
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(AssertionError("it trained")))
    code, _, err = switchback("run")
    assert code == 2
    assert err.startswith("error: gates.yaml:2: not valid YAML")


def test_run_that_breaks_off_leaves_no_verdicts_of_an_earlier_one(switchback, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gates").mkdir()
    for name in ("verdicts.json", "junit.xml"):
        (tmp_path / "gates" / name).write_text("old")
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(ConfigError("W")))
    assert switchback("run")[0] == 2
    assert list((tmp_path / "gates").iterdir()) == []


def test_interrupt_exits_130_and_says_how_to_go_on(switchback, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ci_tools.pipeline.reproduce", raising(KeyboardInterrupt()))
    code, _, err = switchback("run")
    assert code == 130
    assert "run the same command again" in err


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("command", [["compare", "a", "b"], ["replay", "a"]])
def test_verdicts_set_the_exit_code(switchback, monkeypatch, records, command, good, code):
    monkeypatch.setattr("ci_tools.repro.compare.compare", lambda a, b: Verdict(good))
    monkeypatch.setattr("ci_tools.repro.replay.replay", lambda path, segments, seed, echo: Verdict(good))
    assert switchback(*command) == (code, "the sentence\n", "")
    got, out, _ = switchback(*command, "--json")
    assert (got, json.loads(out)) == (code, {"good": good})


def test_replay_passes_its_options_on(switchback, monkeypatch, records):
    seen = []
    monkeypatch.setattr("ci_tools.repro.replay.replay", lambda *arguments: seen.append(arguments) or Verdict(True))
    switchback("replay", "a", "--segments", "7", "--seed", "5")
    assert [str(value) for value in seen[0][:3]] == ["a", "7", "5"]


@pytest.mark.parametrize("table", ["$(touch harm).csv", "'; touch harm; '.csv"])
def test_fingerprint_takes_its_values_from_params_by_key(switchback, repository, monkeypatch, table):
    monkeypatch.setattr("ci_tools.repro.fingerprint.capture", lambda threads: {"threads": threads})
    (repository / table).write_text("a\n")
    (repository / "params.yaml").write_text(f'threads: 3\nsource: {{path: "{table}"}}\n')
    command = "switchback fingerprint --threads-key threads --input-key source.path --out found"
    assert switchback(*command.split()[1:])[0] == 0
    assert json.loads((repository / "found/stack.json").read_text()) == {"threads": 3}
    assert list(json.loads((repository / "found/inputs.json").read_text())) == [table]
    assert not (repository / "harm").exists()


def test_fingerprint_of_an_unknown_key_is_one_line(switchback, repository):
    code, _, err = switchback("fingerprint", "--threads-key", "train.threads")
    assert (code, err) == (2, "error: params.yaml: train.threads: unknown key. Fix: add it, or name another one\n")


def test_unreadable_record_is_one_line(switchback, monkeypatch, records):
    monkeypatch.setattr("ci_tools.repro.compare.compare", raising(RecordError("no run record here", where="a")))
    assert switchback("compare", "a", "b") == (2, "", "error: a: no run record here\n")


def test_name_that_is_neither_path_nor_revision_is_one_line(switchback, repository):
    code, _, err = switchback("compare", "nonsense", "runs")
    assert code == 2
    assert err.startswith("error: nonsense: neither a path nor a git revision")


def test_json_of_a_run_is_one_object_whatever_stages_print(repository):
    done = subprocess.run([sys.executable, "-c", MAIN, "run", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [step["stage"] for step in json.loads(done.stdout)["pipeline"]["steps"]][-1] == "train@2"
    assert "training 1" in done.stderr, "what stages print is not lost"


def test_run_ends_with_the_summary_and_the_count(switchback, repository):
    code, out, err = switchback("run", "--set", "train.steps=20")
    assert code == 0
    assert "params.yaml: train.steps 10 → 20" in err
    assert "1 checked, 3 ran in " in out.splitlines()[-1]


def test_reproduce_prints_one_object_of_steps(switchback, repository):
    code, out, _ = switchback("reproduce", "double", "--json")
    steps = json.loads(out)["steps"]
    assert code == 0
    assert [(step["stage"], step["outcome"]) for step in steps] == [("look", "checked"), ("double", "ran")]


def test_schema_of_params_is_json_schema_with_units(switchback, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    code, out, _ = switchback("schema", "params")
    assert code == 0
    assert json.loads(out)["$defs"]["Train"]["properties"]["steps"]["description"].endswith("in optimizer steps.")


@pytest.mark.parametrize("command", ["gates", "release"])
def test_schemas_of_the_policies_describe_every_key(switchback, command):
    code, out, _ = switchback("schema", command)
    schema = json.loads(out)
    assert (code, schema["additionalProperties"]) == (0, False)
    assert all(one.get("description") for one in schema["properties"].values() if "$ref" not in one)


def test_schema_without_one_says_where_to_name_it(switchback, repository):
    code, _, err = switchback("schema", "params")
    assert code == 2
    assert "[tool.switchback]" in err


def test_interrupt_while_the_command_starts_leaves_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", MAIN], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": search}
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_reader_that_stops_early_sees_no_traceback(repository):
    script = f'"{sys.executable}" -c "{MAIN}" schema params | true; exit "${{PIPESTATUS[0]}}"'
    (repository / "pyproject.toml").write_text('[tool.switchback]\nparams = "model.params:Params"\n')
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_json_output_silences_only_its_own_command(monkeypatch):
    monkeypatch.delenv("SWITCHBACK_QUIET", raising=False)
    with console.machine_output(True):
        assert os.environ["SWITCHBACK_QUIET"] == "1"
    assert "SWITCHBACK_QUIET" not in os.environ
