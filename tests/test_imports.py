"""Who may import whom, and what an import may cost."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ci_tools

ROOT = Path(__file__).parents[1]
CI_TOOLS, MODEL = (sorted((ROOT / name).rglob("*.py")) for name in ("ci_tools", "model"))
MODEL_MAY_IMPORT = ("ci_tools.record", "ci_tools.config", "ci_tools.errors", "ci_tools.console")
TORCH_AT_THE_TOP = {
    "record/energy.py",
    "record/hosted.py",
    "record/intervention.py",
    "record/lightning.py",
    "record/loader.py",
    "record/margins.py",
    "record/monitor.py",
    "record/probes.py",
    "record/ranks.py",
    "record/recorder.py",
    "record/shadow.py",
    "record/tape.py",
    "record/transformers.py",
    "repro/checkpoint.py",
    "repro/determinism.py",
}
TRACKERS = ("wandb", "wandb_workspaces", "tensorboard", "prometheus_client")
TORCH_WHEN_ASKED = {"repro/fingerprint.py", "doctor.py"}
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def imports(path):
    """(module, at the top level of the file) of every import; those for type checkers do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    inside = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((name.name, node not in inside) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, node not in inside
            yield from ((f"{node.module}.{name.name}", node not in inside) for name in node.names)


def uses(path, package, top_only=False):
    return any(name.partition(".")[0] == package for name, top in imports(path) if top or not top_only)


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("path", CI_TOOLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_product_never_imports_the_model(path):
    assert not uses(path, "model")


@pytest.mark.parametrize("path", MODEL, ids=lambda path: str(path.relative_to(ROOT)))
def test_model_imports_only_the_record_and_its_helpers(path):
    for name, _ in imports(path):
        if name.startswith("ci_tools."):
            assert name.startswith(MODEL_MAY_IMPORT), name


@pytest.mark.parametrize("path", CI_TOOLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_recording_and_checkpoints_import_torch(path):
    name = str(path.relative_to(ROOT / "ci_tools"))
    if name not in TORCH_AT_THE_TOP:
        assert not uses(path, "torch", top_only=True)
    if name not in TORCH_AT_THE_TOP | TORCH_WHEN_ASKED:
        assert not uses(path, "torch")


def test_list_of_modules_with_torch_is_not_longer_than_needed():
    for name in TORCH_AT_THE_TOP | TORCH_WHEN_ASKED:
        assert uses(ROOT / "ci_tools" / name, "torch"), name


@pytest.mark.parametrize("folder", ["gates", "report", "release"])
def test_judging_reporting_and_releasing_never_import_what_only_training_needs(folder):
    for path in (ROOT / "ci_tools" / folder).rglob("*.py"):
        tracks = path.parent == ROOT / "ci_tools/report/track"
        has_metrics = path == ROOT / "ci_tools/release/api/metrics.py"
        for package in ("torch", "dvc", *TRACKERS):
            if not (has_metrics and package == "prometheus_client"):
                assert not uses(path, package, top_only=tracks and package in TRACKERS), path


def test_help_imports_nothing_heavy():
    heavy = ("torch", "wandb", "dvc", "pydantic", "pyarrow", "numpy", "rich", "onnxruntime", "sklearn")
    done = run(
        "import sys\nfrom ci_tools.cli import main\nsys.argv = ['switchback', '--help']\n"
        f"try:\n    main()\nexcept SystemExit:\n    sys.exit(str([n for n in {heavy!r} if n in sys.modules] or ''))"
    )
    assert "Commands:" in done.stdout
    assert done.stderr.strip() == ""


def test_records_are_read_and_compared_without_torch_and_dvc():
    done = run(
        BLOCK.format(blocked={"torch", "dvc", "wandb"})
        + "import ci_tools.record, ci_tools.record.reader, ci_tools.repro.compare, ci_tools.report.terminal\n"
        "ci_tools.record.open_record"
    )
    assert done.returncode == 0, done.stderr


def test_training_code_needs_neither_dvc_nor_wandb():
    done = run(BLOCK.format(blocked={"dvc", "wandb"}) + "import model.train\nfrom ci_tools.record import Recorder")
    assert done.returncode == 0, done.stderr


def test_command_that_needs_dvc_says_so_where_it_is_missing():
    done = run(
        BLOCK.format(blocked={"dvc"}) + "from ci_tools.cli import main\nsys.argv = ['switchback', 'reproduce']\nmain()"
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: package dvc is not installed")


def test_gates_are_collected_where_nothing_is_installed_that_only_developers_need():
    """`make run` installs less than `make test`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    blocked = {re.split(r"[=><~]", name)[0].replace("-", "_") for name in extras["dev"]} | {"xdist"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + "import pytest\nsys.exit(pytest.main(sys.argv[1:]))",
         "--collect-only", "-q", "-p", "ci_tools.gates.plugin", "-p", "no:cacheprovider", "tests/model"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/model/test_quality.py" in done.stdout


def test_all_names_exist_and_are_listed_once():
    for found in pkgutil.walk_packages(ci_tools.__path__, "ci_tools."):
        module = importlib.import_module(found.name)
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), found.name
        assert all(hasattr(module, name) for name in names), found.name
