"""The workflows that an adopted repository gets hang together, and do what this repository's own do."""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ci_tools.adopt import workflows
from ci_tools.adopt.repository import look

ROOT = Path(__file__).parents[2]
EXPERIMENT = ".github/workflows/_experiment.yml"
EVERYTHING = "export/model.onnx data/profile.json"


@pytest.fixture
def written(stranger):
    """Text by path, for a repository that exports a model and profiles its data."""
    return workflows.wanted(look(), EVERYTHING)


def parsed(written):
    yaml = YAML(typ="safe", pure=True)
    return {path: yaml.load(text) for path, text in written.items() if path.endswith(".yml")}


def steps(workflow):
    jobs = workflow["jobs"].values() if "jobs" in workflow else [workflow["runs"]]
    return [step for job in jobs for step in job.get("steps", [])]


def test_every_file_that_is_called_is_there(written):
    called = {name for text in written.values() for name in re.findall(r"uses: [.$]/(\S+)", text)}
    assert called
    for name in called:
        assert name in written or f"{name}/action.yml" in written, name


def test_steps_need_no_makefile_of_ours(written):
    lines = [step["run"] for workflow in parsed(written).values() for step in steps(workflow) if "run" in step]
    others = {line for line in lines if not line.removeprefix("exec ").startswith("switchback ")}
    assert {" ".join(line.split()[:3]) for line in others} == {"python -m pip", "python3 .github/required.py"}


def test_release_is_rehearsed_only_where_there_is_a_model(written):
    found = [step for step in steps(parsed(written)[EXPERIMENT]) if step.get("run") == "switchback rehearse"]
    assert all("hashFiles('export/model.onnx') != ''" in step["if"] for step in found)


def test_report_listens_to_workflows_that_exist(written):
    workflows_written = parsed(written)
    names = {workflow["name"] for path, workflow in workflows_written.items() if "/workflows/" in path}
    assert set(workflows_written[".github/workflows/report.yml"]["on"]["workflow_run"]["workflows"]) <= names


def test_branch_python_and_packages_are_the_repositorys(stranger):
    written = workflows.wanted(replace(look(), branch="1.10", python="3.13", packages="--editable ."), EVERYTHING)
    assert parsed(written)[".github/workflows/release.yml"]["on"]["push"]["branches"] == ["1.10"]
    action = parsed(written)[".github/actions/setup/action.yml"]
    assert action["inputs"]["python-version"]["default"] == "3.13"
    assert steps(action)[-1]["run"] == "python -m pip install --editable ."
    assert not re.search(r"@[A-Z]+@", "".join(written.values()))


def test_without_a_model_there_is_no_release_and_without_a_profile_no_retraining(stranger):
    def names(stages):
        return {Path(path).name for path in workflows.wanted(look(), stages)}

    assert names(EVERYTHING) - names("data/profile.json") == {"release.yml", "rollback.yml"}
    assert names(EVERYTHING) - names("export/model.onnx") == {"retrain.yml"}
    assert names("") >= {"_experiment.yml", "gpu.yml", "report.yml", "smoke.yml"}


def test_actions_are_those_of_this_repository(written):
    def pins(text):
        return set(re.findall(r"uses: ([^.\s]\S+ # v\S+)", text))

    known = {pin for path in (ROOT / ".github").rglob("*.yml") for pin in pins(path.read_text())}
    assert set().union(*map(pins, written.values())) <= known


def test_inputs_of_actions_and_workflows_are_declared(written):
    known = parsed(written)
    for workflow in known.values():
        for caller in (*steps(workflow), *workflow.get("jobs", {}).values()):
            if str(caller.get("uses", "")).startswith(("./", "$/")):
                name = caller["uses"][2:]
                called = known.get(name) or known[f"{name}/action.yml"]
                declared = called.get("inputs") or (called["on"]["workflow_call"] or {}).get("inputs", {})
                assert caller.get("with", {}).keys() <= declared.keys(), name


def test_wheel_holds_what_a_checkout_has_elsewhere():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    expected = {source: f"ci_tools/adopt/template/{name}" for name, source in workflows.SHIPPED.items()}
    assert settings["force-include"] == expected


def test_nothing_of_the_package_is_moved_within_the_wheel():
    """hatchling takes a file that it is told to include elsewhere away from its own place."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source in settings["force-include"]:
        assert not any(Path(source).is_relative_to(package) for package in settings["packages"]), source


def test_aggregator_runs_without_any_package_of_ours(written, tmp_path):
    file = tmp_path / "required.py"
    file.write_text(written[".github/required.py"])
    for result, code in (("success", 0), ("failure", 1)):
        environment = {"NEEDS": json.dumps({"a": {"result": result}}), "PATH": os.environ["PATH"]}
        done = subprocess.run([sys.executable, "-I", "-S", file], env=environment, capture_output=True, check=False)
        assert done.returncode == code
