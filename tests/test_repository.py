"""The files around the code: configuration, tasks, pins, pipeline."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ci_tools.config import read_yaml
from model.params import Params

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
TASKS = ["setup", "required", "run", "test", "lint", "bench", "docs", "clean"]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def local_imports(path):
    """Paths of the model modules that a module imports, directly or not."""
    found, todo = set(), [path]
    while todo:
        for node in ast.walk(ast.parse(todo.pop().read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "model":
                names = [node.module] if node.module != "model" else [f"model.{name.name}" for name in node.names]
                new = {ROOT / f"{name.replace('.', '/')}.py" for name in names} - found
                found |= new
                todo += new
    return found


def test_params_yaml_spells_out_every_default():
    shipped = json.loads(json.dumps(read_yaml(ROOT / "params.yaml")))
    assert shipped == Params().model_dump(mode="json")


def test_dvc_accepts_the_pipeline_and_its_plots():
    from dvc.repo import Repo

    repo = Repo(str(ROOT))
    assert {stage.addressing.partition("@")[0] for stage in repo.index.stages} == set(STAGES)
    drawn = [name for plots in repo.index._plots.values() for plot in plots for name in plot]
    assert {"evaluation/precision_recall.csv", "evaluation/roc.csv"} <= set(drawn)


def test_every_stage_runs_a_module_or_command_that_exists():
    for stage in STAGES.values():
        program, *arguments = shlex.split(stage["cmd"])
        if program == "python":
            assert (ROOT / f"{arguments[1].replace('.', '/')}.py").is_file()
        else:
            assert program == "switchback"
            from ci_tools.cli import app

            assert arguments[0] in {command.callback.__name__ for command in app.registered_commands}


def test_no_text_of_params_yaml_becomes_part_of_a_shell_command():
    inserted = {name for stage in STAGES.values() for name in re.findall(r"\$\{(.*?)\}", stage["cmd"])}
    assert inserted <= {"item.seed"}, "seeds are whole numbers; anything else could be a command"


def test_lock_files_are_no_part_of_what_stages_depend_on():
    from dvc.repo import Repo

    ignore = Repo(str(ROOT)).dvcignore
    assert ignore.is_ignored_file(str(ROOT / "runs/.seed-1.lock"))
    assert not ignore.is_ignored_file(str(ROOT / "runs/seed-1/run.json"))


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage["cmd"].startswith("python")])
def test_stage_depends_on_all_model_code_that_it_runs(name):
    module = ROOT / f"{shlex.split(STAGES[name]['cmd'])[2].replace('.', '/')}.py"
    needed = {module} | local_imports(module)
    # What `data` runs reaches later stages as its outputs.
    if name != "data":
        needed -= {ROOT / dep for dep in STAGES["data"]["deps"] if dep != "model/params.py"}
    listed = {ROOT / dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert listed == needed


def test_what_one_stage_reads_another_writes():
    written = {next(iter(out)) if isinstance(out, dict) else out for s in STAGES.values() for out in s["outs"]}
    for stage in STAGES.values():
        for dep in stage.get("deps", []):
            dep = dep.replace("${seeds[0]}", "${item.seed}")
            assert dep.endswith(".py") or dep == "runs" or dep in written, dep


def test_what_stages_write_is_ignored_by_git_except_the_lock():
    outs = [out for kind in ("outs", "metrics", "plots") for stage in STAGES.values() for out in stage.get(kind, [])]
    paths = [(next(iter(o)) if isinstance(o, dict) else o).replace("${item.seed}", "1") for o in outs]
    asked = subprocess.run(["git", "check-ignore", *paths, "dvc.lock"], capture_output=True, text=True, cwd=ROOT)
    assert asked.stdout.split() == paths


def test_default_remote_works_without_setup():
    config = (ROOT / ".dvc/config").read_text()
    assert "remote = local" in config
    assert "url = ../.dvc-storage" in config
    assert "analytics = false" in config


def test_pins_cover_every_dependency_and_install_anywhere():
    wanted = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[<>=\[]", want)[0].lower().replace("_", "-") for want in wanted}
    pinned = pins()
    assert names <= {name.lower().replace("_", "-") for name in pinned}
    assert not [version for version in pinned.values() if "+" in version or "/" in version]


def test_help_is_the_default_task_and_lists_all():
    shown = subprocess.run(["make", "--no-print-directory"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert re.findall(r"^make (\w+)", shown.stdout, re.MULTILINE) == ["help", *TASKS]


def make(folder, task, python, **environment):
    return subprocess.run(
        ["make", "--no-print-directory", task, f"PYTHON={python}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )


@pytest.fixture
def checkout(tmp_path):
    """The Makefile with a Python whose `venv` makes programs that only write down how they were called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
if [ "$1" = -c ]; then exec "{sys.executable}" "$@"; fi
mkdir -p .venv/bin
for program in pip ruff mypy pytest switchback python; do
    printf '#!/bin/sh\\necho %s "$@" >> calls\\n[ "$FAIL" != %s ]\\n' $program $program > .venv/bin/$program
    chmod +x .venv/bin/$program
done
"""
    )
    python.chmod(0o755)
    return tmp_path


def calls(checkout):
    lines = (checkout / "calls").read_text().splitlines() if (checkout / "calls").exists() else []
    (checkout / "calls").unlink(missing_ok=True)
    return lines


def test_tasks_install_once_and_again_only_when_the_pins_change(checkout):
    python = checkout / "python"
    assert make(checkout, "lint", python).returncode == 0
    assert calls(checkout)[0].startswith("pip install")
    assert make(checkout, "lint", python).returncode == 0
    assert calls(checkout) == ["ruff check", "ruff format --check", "mypy"]
    stamp = (checkout / ".venv/.ready").stat().st_mtime
    os.utime(checkout / "constraints.txt", (stamp + 5, stamp + 5))
    make(checkout, "test", python)
    assert [line.split()[0] for line in calls(checkout)] == ["pip", "pip", "pytest"]


def test_failed_installation_is_tried_again(checkout):
    python = checkout / "python"
    assert make(checkout, "lint", python, FAIL="pip").returncode != 0
    assert [line.split()[0] for line in calls(checkout)] == ["pip"]
    assert make(checkout, "lint", python).returncode == 0
    assert calls(checkout)[0].startswith("pip install")


@pytest.mark.parametrize("python", ["", "/nowhere/python3", "false"])
def test_missing_or_old_python_is_one_clear_error(checkout, python):
    done = make(checkout, "lint", python)
    assert done.returncode != 0
    assert "error: Python 3.11 or newer is needed" in done.stderr


def test_clean_removes_outputs_and_keeps_everything_else(checkout):
    kept = ["data/own.csv", "runs/notes.txt", ".venv/x", ".dvc/cache/x", "dvc.lock"]
    gone = [
        "data/train.npz",
        "data/schema.json",
        "runs/seed-1/run.json",
        "evaluation/metrics.json",
        "export/model.onnx",
        "gates/verdicts.json",
        "report/index.html",
    ]
    for name in kept + gone:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    assert make(checkout, "clean", "python3").returncode == 0
    assert [name for name in kept + gone if (checkout / name).exists()] == kept
    make(checkout, "clean", "python3", CACHE="1")
    assert not (checkout / ".dvc/cache").exists()


def test_hooks_run_what_lint_runs():
    (hooks,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = [re.sub(r"^\.venv/bin/| --force-exclude$", "", hook["entry"]) for hook in hooks["hooks"]]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    tasks = [line.strip().removeprefix("$(BIN)/").removesuffix(" --check") for line in lint.splitlines()]
    assert entries == tasks


def test_ci_runs_lint_then_test():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)$", script.read_text(), re.MULTILINE) == ["lint", "test"]


def test_committed_text_names_no_place_of_one_machine():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, cwd=ROOT)
    forbidden = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "home/[a-z]", "/opt/" + "(pypi|wheels)"]))
    for name in listed.stdout.split():
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        assert not forbidden.search(text), name
