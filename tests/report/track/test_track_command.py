"""`switchback track`: what it says, and its exit codes."""

import json
import shutil
import socket
import subprocess
import sys

import pytest

from ci_tools import cli
from tests.report.track import project
from tests.report.track.backend import KEY
from tests.report.track.journal import Journal

RECORD = "runs/seed-1"
WITHOUT_WANDB = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "wandb":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from ci_tools.cli import main
main()
"""


@pytest.fixture
def root(tmp_path):
    with project.surroundings(project.make(tmp_path / "root", verdicts=None)):
        yield tmp_path / "root"


@pytest.fixture
def switchback(monkeypatch, capfd):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    monkeypatch.delenv("SWITCHBACK_QUIET", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["switchback", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run


def test_says_where_the_data_waits(root, switchback):
    code, out, err = switchback("track", RECORD)
    folder = json.loads((root / "report/wandb.json").read_text())["runs"]["seed-1"]["folder"]
    assert (code, out, err) == (0, f"seed-1: kept in {folder}; `wandb sync {folder}` sends it\n", "")
    assert len(Journal(root / folder).history) == 60


def test_machine_output_is_one_object(root, switchback):
    code, out, _ = switchback("track", RECORD, "--json")
    told = json.loads(out)
    assert (code, told["warnings"], list(told["runs"])) == (0, [], ["seed-1"])


@pytest.mark.parametrize(("option", "expected"), [([], 0), (["--strict"], 4)], ids=["lenient", "strict"])
def test_outage_is_a_warning_unless_asked_otherwise(root, switchback, monkeypatch, option, expected):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        code, out, err = switchback("track", RECORD, "--seconds", "1", *option)
    assert code == expected
    assert err.startswith("warning: W&B at http://127.0.0.1")
    assert "kept in wandb/offline-run-" in out


@pytest.mark.parametrize("to", ["wandb", "tensorboard", "prometheus"])
def test_missing_record_is_refused(root, switchback, to):
    shutil.rmtree(root / "runs")
    (root / RECORD).mkdir(parents=True)
    code, _, err = switchback("track", RECORD, "--to", to)
    assert (code, err) == (2, f"error: {RECORD}: no run record here. Fix: name a folder that holds run.json\n")


def test_record_of_a_newer_schema_is_refused(root, switchback):
    path = root / RECORD / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    code, _, err = switchback("track", RECORD)
    assert code == 2
    assert "schema version 2; this Switchback reads version 1. Fix: upgrade Switchback" in err


def test_damaged_record_is_refused_and_nothing_is_kept(root, switchback):
    path = root / RECORD / "trace.arrows"
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = switchback("track", RECORD)
    assert code == 2
    assert "trace.arrows does not match the digest" in err
    assert not list(root.glob("wandb/offline-run-*"))


def test_missing_package_is_named(root):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WANDB, "track", RECORD], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4
    assert done.stderr == "error: package wandb is not installed. Fix: pip install 'switchback-ci[track]'\n"


@pytest.mark.parametrize(("to", "expected"), [("tensorboard", "seed-1"), ("prometheus", "seed-1.prom")])
def test_other_trackers_write_below_the_folder(root, switchback, to, expected):
    code, out, _ = switchback("track", RECORD, "--to", to, "--out", "told")
    assert (code, out) == (0, f"seed-1: told/{expected}\n")
    assert (root / "told" / expected).exists()


@pytest.mark.parametrize("to", ["wandb", "tensorboard", "prometheus"])
def test_two_records_of_one_name_are_refused_before_anything_is_told(root, switchback, to):
    shutil.copytree(root / RECORD, root / "others/seed-1")
    code, out, err = switchback("track", RECORD, "others/seed-1", "--to", to)
    assert (code, out) == (2, "")
    assert "runs/seed-1 and others/seed-1 have one name; a record is called after its folder. Fix: name them" in err
    assert not list(root.glob("wandb/offline-run-*"))
    assert not (root / "report" / to).exists()


@pytest.mark.parametrize("to", ["wandb", "tensorboard", "prometheus"])
@pytest.mark.parametrize("id_", ["../../x", ""])
def test_record_whose_id_is_none_is_refused_by_every_tracker(root, switchback, to, id_):
    path = root / RECORD / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id": id_}))
    code, _, err = switchback("track", RECORD, "--to", to)
    assert code == 2
    assert f"run.json: '{id_}' is no id; an id has 12 hex digits. Fix: train again" in err


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "bogus"), ("WANDB_BASE_URL", "nonsense")])
def test_settings_that_w_and_b_refuses_are_named_without_their_values(root, switchback, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, _, err = switchback("track", RECORD)
    assert code == 2
    assert err.startswith(f"error: {name}: W&B does not take it; ")
    assert f"Fix: correct or unset {name}" in err
    assert f"'{value}'" not in err
    assert err.count("\n") == 1


def test_folder_for_w_and_b_is_refused(root, switchback):
    code, _, err = switchback("track", RECORD, "--out", "told")
    assert (code, err.partition(";")[0]) == (2, "error: --out is for other trackers")


@pytest.mark.parametrize(("option", "expected"), [([], 0), (["--strict"], 4)], ids=["lenient", "strict"])
def test_mode_that_disables_w_and_b_is_obeyed_and_told(root, switchback, monkeypatch, option, expected):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code, _, err = switchback("track", RECORD, *option)
    assert (code, err) == (expected, "warning: W&B is told nothing: WANDB_MODE is disabled\n")
    assert not list(root.glob("wandb/*run-*"))
