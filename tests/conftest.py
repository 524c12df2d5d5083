"""The command line, and scratch repositories to run the pipeline in."""

import subprocess
import sys
from pathlib import Path

import pytest

from ci_tools import cli

ROOT = Path(__file__).parents[1]
DVC_YAML = """\
stages:
  look:
    cmd: mkdir -p seen && cp input.txt seen/input.txt
    always_changed: true
    outs:
      - seen/input.txt:
          cache: false
  double:
    cmd:
      - echo double >> ran.log
      - mkdir -p doubled && cat seen/input.txt seen/input.txt > doubled/text
      - echo ${double.times}
    deps: [seen/input.txt]
    params: [double]
    outs: [doubled/text]
  train:
    matrix:
      seed: ${seeds}
    cmd: python train.py ${item.seed}
    deps: [doubled/text]
    params: [train]
    outs:
      - runs/seed-${item.seed}
"""
TRAIN_PY = """\
import pathlib, sys, yaml
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
seed, train = sys.argv[1], yaml.safe_load(open("params.yaml"))["train"]
folder = pathlib.Path("runs", f"seed-{seed}")
state = folder / "state"
with open("ran.log", "a") as log:
    print(f"train {seed} {'resumes ' + state.read_text() if state.exists() else 'starts'}", file=log)
folder.mkdir(parents=True, exist_ok=True)
state.write_text(f"{train['steps']} steps, python {sys.executable}")
meta = RunMeta(
    schema_version=SCHEMA_VERSION, id="t", status="preempted" if train["exit"] else "finished", command=sys.argv,
    workdir=".", seed=int(seed), params=train, params_digest="", git_commit="", git_dirty=False, code={},
    code_digest="", data={}, fingerprint={}, probe_every=1, checkpoint_every=1, started="",
)
(folder / "run.json").write_text(meta.text())
print("training", seed)
sys.exit(train["exit"])
"""
PARAMS = """\
seeds: [1, 2] # the first is the release
double:
  times: 2
train:
  steps: 10 # optimizer steps
  exit: 0
"""


def pytest_configure(config):
    """How long an example takes is the machine's affair. The gates run where Hypothesis is not installed."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        import hypothesis

        hypothesis.settings.register_profile("untimed", deadline=None)
        hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def git():
    """Run git in the working directory."""

    def run(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    return run


@pytest.fixture
def repository(tmp_path, monkeypatch, git):
    """The working directory: a git and DVC repository with three cheap stages; `ran.log` says what was executed."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main", ".")
    files = {
        ".dvc/config": (ROOT / ".dvc/config").read_text(),
        ".dvc/.gitignore": (ROOT / ".dvc/.gitignore").read_text(),
        ".gitignore": "/seen/\n/doubled/\n/runs/\n/ran.log\n/.dvc-storage/\n__pycache__/\n",
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS,
        "train.py": TRAIN_PY,
        "input.txt": "one\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    return tmp_path


@pytest.fixture
def switchback(monkeypatch, capfd):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    monkeypatch.delenv("SWITCHBACK_QUIET", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["switchback", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        monkeypatch.delenv("SWITCHBACK_QUIET", raising=False)
        out, err = capfd.readouterr()
        return end.value.code or 0, out, err

    return run
