"""`switchback init` from the command line."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ci_tools import __version__
from ci_tools.adopt.files import EXTRAS
from ci_tools.adopt.repository import look
from ci_tools.config import load, read_yaml
from ci_tools.gates import policy as gates
from tests.installation import install

ROOT = Path(__file__).parents[2]


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git/" not in str(path)
    }


def test_everything_is_detected_and_written_and_the_next_step_is_said(stranger, switchback):
    code, out, err = switchback("init")
    assert (code, err) == (0, "")
    assert "training: train.py (python train.py)" in out
    assert "new       dvc.yaml" in out
    assert "run.epochs(loader, args.epochs)" in out
    assert read_yaml("params.yaml")["train"] == {"epochs": 12, "batch_size": 64, "width": 64, "lr": 3e-3}
    (train,) = [stage for name, stage in read_yaml("dvc.yaml")["stages"].items() if name == "train"]
    assert train["cmd"] == (
        "python train.py --seed ${item.seed} --epochs ${train.epochs} --batch-size ${train.batch_size} "
        "--width ${train.width} --lr ${train.lr}"
    )
    assert load(gates.FILE, gates.Policy) == gates.Policy(gates={"stragglers": gates.Rule(blocks=False)})


@pytest.mark.parametrize("name", ["train.py", "a: b #1.py", "- 'x' &y.py"])
def test_dvc_accepts_the_stages(stranger, switchback, name):
    from dvc.repo import Repo

    (stranger / "train.py").rename(stranger / name)
    switchback("init")
    stages = list(Repo(str(stranger)).index.stages)
    assert [stage.addressing for stage in stages] == ["fingerprint", "train@1", "train@2", "train@3"]
    assert name in [dependency.def_path for dependency in stages[1].deps]


def test_folder_of_the_runs_is_no_input_of_training(stranger, switchback):
    text = Path("train.py").read_text()
    Path("train.py").write_text(
        text.replace("parser.add_argument", 'parser.add_argument("--out", default="runs")\n    parser.add_argument', 1)
    )
    Path("runs").mkdir()
    Path("runs/.gitkeep").touch()
    switchback("init")
    assert read_yaml("dvc.yaml")["stages"]["train"]["deps"] == ["fingerprint/stack.json", "train.py"]


def test_files_that_are_extended_keep_their_line_ends(stranger, switchback):
    for name, text in {".gitignore": b"mine\r\n", "params.yaml": b"mine: 1\r\n"}.items():
        Path(name).write_bytes(text)
        switchback("init")
        assert Path(name).read_bytes().startswith(text)
        assert b"\n" not in Path(name).read_bytes().replace(b"\r\n", b"")


def test_file_whose_name_is_no_text_is_passed_by(stranger, switchback):
    Path(os.fsdecode(b"\xff.py")).write_text("import torch")
    assert switchback("init")[0] == 0


def test_again_there_is_nothing_to_do(stranger, switchback):
    switchback("init")
    before = contents(stranger)
    code, out, _ = switchback("init")
    assert code == 0
    assert "nothing to do" in out
    assert contents(stranger) == before


def test_dry_run_writes_nothing_and_its_diff_makes_the_same_files(stranger, switchback):
    Path(".gitignore").write_text("mine")
    before = contents(stranger)
    _, out, _ = switchback("init", "--dry-run")
    assert contents(stranger) == before
    subprocess.run(["git", "apply", "-"], input=out, text=True, check=True)
    applied = contents(stranger)
    _, out, _ = switchback("init")
    assert "nothing to do" in out
    assert contents(stranger) == applied


def test_own_files_stay_without_force(stranger, switchback):
    Path("gates.yaml").write_text("false_alarms: 0.05\n")
    _, out, _ = switchback("init")
    assert "kept      gates.yaml (yours; --force replaces it)" in out
    assert Path("gates.yaml").read_text() == "false_alarms: 0.05\n"
    _, out, _ = switchback("init", "--force")
    assert "replaced  gates.yaml" in out


def test_own_params_gain_what_the_pipeline_needs_and_training_follows_all_of_them(stranger, switchback):
    Path("params.yaml").write_text("model: {width: 8}\ntrain: {lr: 0.1}")
    switchback("init")
    assert Path("params.yaml").read_text().startswith("model: {width: 8}\ntrain: {lr: 0.1}\nseeds: [1, 2, 3]")
    train = read_yaml("dvc.yaml")["stages"]["train"]
    assert train["cmd"] == "python train.py --seed ${item.seed} --lr ${train.lr}"
    assert train["params"] == ["model", "train"]


def test_ordinary_pytest_passes_the_acceptance_tests_by(stranger, switchback):
    switchback("init")
    Path("tests/test_own.py").write_text("def test_own():\n    pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], capture_output=True, text=True, check=False)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_what_releases_comes_with_a_stage_that_exports_and_its_absence_is_explained(stranger, switchback):
    why = "the workflows that release are left out, since no stage of dvc.yaml writes export/model.onnx"
    assert f"note: release.yaml and {why}" in switchback("init")[1]
    assert not Path("release.yaml").exists()
    with Path("dvc.yaml").open("a") as stages:
        stages.write("\n  export:\n    cmd: python export.py\n    outs:\n      - export/model.onnx\n")
    _, out, _ = switchback("init")
    assert "left out" not in out
    assert read_yaml("release.yaml")
    assert Path(".github/workflows/release.yml").exists()


def test_weights_that_no_stage_knows_are_said_with_what_to_do(stranger, switchback):
    _, out, _ = switchback("init")
    assert "note: train.py, line 52: torch.save(…, 'model.pt') writes one file for all seeds" in out
    assert "`save_file(tensors, run.path / 'model.safetensors')`" in out
    text = Path("train.py").read_text()
    Path("train.py").write_text(text.replace("torch.save(model.state_dict(),", "torch.onnx.export(model, x,"))
    assert "Fix: export in a stage of its own, from the weights in the record" in switchback("init")[1]
    Path("train.py").write_text(text.replace("torch.save", "print"))
    assert "writes one file" not in switchback("init")[1]


def test_json_holds_what_was_found(stranger, switchback):
    code, out, _ = switchback("init", "--dry-run", "--json")
    told = json.loads(out)
    assert (code, told["written"], told["found"]["branch"]) == (0, False, "trunk")
    assert {"path": "dvc.yaml", "kind": "new"} in told["files"]


def test_extras_that_are_installed_exist():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.split(",")) <= known.keys()


def test_folder_is_installed_from_by_its_address(stranger, switchback):
    switchback("init", "--install", str(ROOT))
    assert f"@ {ROOT.as_uri()}\n" in Path("requirements-switchback.txt").read_text()


@pytest.fixture
def from_a_folder(stranger, tmp_path, monkeypatch):
    """This package as if it were installed from a folder that no other machine has."""
    address = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    home = "Project-URL: Repository, https://example.org/switchback"
    monkeypatch.setattr(sys, "path", [install(tmp_path / "site", home, direct_url=address), *sys.path])
    return tmp_path


def test_place_that_ci_cannot_install_from_is_said_each_time_until_one_is_named(from_a_folder, switchback):
    words = f"this one was installed from {from_a_folder}, and CI cannot. Fix: "
    for _ in range(2):
        assert words in switchback("init")[1]
    release = f"switchback-ci[{EXTRAS}] @ git+https://example.org/switchback@v{__version__}\n"
    assert Path("requirements-switchback.txt").read_text().endswith(release)
    (note,) = [note for note in json.loads(switchback("init", "--json")[1])["notes"] if words in note]
    assert "--install git+https://" in note
    Path("requirements-switchback.txt").write_text("switchback-ci @ git+https://example.org/mine@v1\n")
    assert words not in switchback("init")[1]
    Path("requirements-switchback.txt").unlink()
    assert words not in switchback("init", "--install", "git+https://example.org/mine@v1")[1]


def test_what_pip_could_not_install_from_is_refused(stranger, switchback):
    code, _, err = switchback("init", "--install", "v0.2.0")
    assert (code, err.count("\n")) == (2, 1)
    assert "--install v0.2.0: is neither" in err
    assert not Path("dvc.yaml").exists()


def test_file_to_be_extended_that_is_no_text_is_named(stranger, switchback):
    Path(".gitignore").write_bytes(b"gr\xfc\xdfe")
    code, _, err = switchback("init")
    assert (code, ".gitignore: byte 2 is no UTF-8" in err) == (2, True), err


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tests/model/test_units.py": ""}, "tests/model: holds test_units.py"),
        ({"params.yaml": "[1]"}, "params.yaml: must hold a mapping"),
        ({"tests": ""}, "tests: is a file, where a folder is needed"),
    ],
)
def test_what_stands_in_the_way_is_one_line_and_nothing_is_written(stranger, switchback, files, words):
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    before = contents(stranger)
    code, _, err = switchback("init")
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert contents(stranger) == before


@pytest.mark.parametrize("place", ["..", "inside"])
def test_place_that_is_no_root_of_a_repository_is_refused(stranger, switchback, monkeypatch, place):
    Path("inside").mkdir()
    monkeypatch.chdir(place)
    code, _, err = switchback("init")
    assert code == 2
    assert "git repository" in err or "not the root" in err


class TestLook:
    @pytest.mark.parametrize(
        "address",
        [
            "git@github.com:me/it.git",
            "https://github.com/me/it",
            "ssh://git@github.com/me/it/",
            "ssh://git@ssh.github.com:443/me/it.git",
        ],
    )
    def test_remote_on_github(self, stranger, git, address):
        git("remote", "add", "origin", address)
        assert look().github == "me/it"

    @pytest.mark.parametrize("host", ["gitlab.example.org", "notgithub.com", "github.example.org"])
    def test_remote_elsewhere_gets_no_workflows(self, stranger, git, switchback, host):
        git("remote", "add", "origin", f"https://{host}/me/it.git")
        _, out, _ = switchback("init")
        assert f"your remote is https://{host}/me/it.git" in out
        assert not Path(".github").exists()

    @pytest.mark.parametrize(
        ("files", "python"),
        [
            ({".python-version": "3.12.4\n"}, "3.12"),
            ({"pyproject.toml": '[project]\nrequires-python = ">=3.13"'}, "3.13"),
            ({".python-version": "3.8", "pyproject.toml": '[project]\nrequires-python = "~=3.12"'}, "3.12"),
            ({".python-version": "3.13", "pyproject.toml": "project = 'x'"}, "3.13"),
        ],
    )
    def test_python_that_the_project_asks_for(self, stranger, files, python):
        for name, text in files.items():
            Path(name).write_text(text)
        assert look().python == python

    @pytest.mark.parametrize("settings", ["[project]\nname = 'it'\n", "[build-system]\nrequires = []\n"])
    def test_requirements_of_the_project(self, stranger, settings):
        Path("requirements.txt").write_text("torch\n")
        Path("pyproject.toml").write_text(settings)
        own = "--requirement requirements.txt --editable . --requirement requirements-switchback.txt"
        assert look().packages == own
