"""Every command of the documents is executed, in a small copy of this repository, unless it is marked.

The pipeline runs once; each document gets a copy of what it left. Slow: `pytest -m slow tests/test_docs_executed.py`.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ci_tools.release.bundle.keys import public_beside
from ci_tools.release.home import Home
from tests.documents import DOCUMENTS, ROOT, commands
from tests.release.server.running import wait_for

pytestmark = pytest.mark.slow

SMALL = {
    "params.yaml": {
        "seeds: [1, 2, 3, 4, 5]": "seeds: [1, 2]",
        "transactions: 300_000": "transactions: 40_000",
        "width: 128": "width: 32",
        "steps: 400": "steps: 120",
        "batch_size: 2_048": "batch_size: 256",
        "warmup: 50": "warmup: 20",
        "threads: 2": "threads: 1",
    },
    # So small a training learns little.
    "gates.yaml": {"gates:": "gates:\n  plateau: { blocks: false }\n  simpler_model: { blocks: false }"},
}
ELSEWHERE = {"switchback serve": "switchback serve --port 0", "/var/lib/node_exporter/textfile": "textfile"}
"""What a test must not touch, and what it takes instead."""
SERVE = ELSEWHERE["switchback serve"]
SECONDS = 600
"""After which a command hangs."""
ANSWERS = {
    "make run": ((0, 3), ""),  # a busy machine gives the rehearsal too little evidence
    "switchback run": ((0, 3), ""),
    "switchback rollback": ((2,), "nothing is in progress"),
    "switchback pause": ((2,), "nothing is being judged"),
    "switchback resume": ((2,), "nothing is being judged"),
    "switchback promote": ((2,), "nothing is being judged"),
    "switchback bundle --override": ((2,), "does not block"),
    "switchback bundle --identity": ((4,), "no identity to sign with"),
}
"""Exit codes, and words of the answer, by the beginning of a command; elsewhere it ends with 0."""
AMID = {"runbooks": ["switchback serve", "switchback release bundles/fraud"]}
"""What a document's reader has done already."""


def environment(project):
    """Without what the tests' own environment holds; the home, where a key is made, goes along with the project."""
    search = os.pathsep.join([str(project / ".venv/bin"), os.environ["PATH"]])
    own = {"HOME": str(project / "home"), "PYTHONPATH": str(project), "WANDB_MODE": "offline", "DVC_NO_ANALYTICS": "1"}
    names = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {"PATH": search, "LANG": "C.UTF-8"} | own | names


def execute(text, project):
    """Run a command as a reader types it; the output goes into what a failed test shows."""
    done = subprocess.run(
        ["bash", "-c", text], cwd=project, env=environment(project), capture_output=True, text=True, timeout=SECONDS
    )
    return done.returncode, f"$ {text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@contextmanager
def service(text, project):
    """`switchback serve` beside the commands that follow it."""
    socket = Home(project / Home().path).socket
    with subprocess.Popen(
        ["bash", "-c", f"exec {text.removesuffix('&')}"], cwd=project, env=environment(project), stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(lambda: socket.exists() or process.poll() is not None)
            assert process.poll() is None, process.stderr.read().decode()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def written(path):
    """A table with a label that the other columns tell something of."""
    draw = np.random.default_rng(0)
    lines = ["age,hours,income"]
    for age, hours in zip(draw.integers(18, 80, 4000), draw.integers(0, 60, 4000), strict=True):
        lines.append(f"{age},{hours},{'high' if age + hours + draw.normal(0, 10) > 90 else 'low'}")
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small copy of this repository in which `make run` has run, with what the documents take for given."""
    root = tmp_path_factory.mktemp("d") / "p"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".venv").mkdir()
    (root / ".venv/bin").symlink_to(Path(sys.executable).parent)
    for stamp in (".ready", ".ready-dev"):
        (root / ".venv" / stamp).touch()
    for name, changes in SMALL.items():
        text = (root / name).read_text()
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after, 1)
        (root / name).write_text(text)
    (root / "home").mkdir()
    for command in [
        "git init -q -b main && echo home/ >> .git/info/exclude && git add -A && git commit -qm start",
        "git remote add origin . && git fetch -q",
        "make run",
        "git add -A && git commit -qm baseline && git fetch -q",
        "dvc push -q",
        "switchback bundle",
    ]:
        follow(command, root, None)
    (bundle,) = (root / "bundles").iterdir()
    for name in ("DIGEST", "fraud"):
        (root / "bundles" / name).symlink_to(bundle.name)
    for name in ("FILE.csv", "adult.csv"):
        written(root / name)
    shutil.copy(root / "report/results.json", root / "results.json")
    (root / "labels.jsonl").write_text("")
    shutil.copy(public_beside(root / "home/.config/switchback/signing.pem"), root / "ci.pub")
    return root


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if commands(path)], ids=lambda path: path.stem)
def test_commands_work_in_the_order_of_the_document(path, project, tmp_path):
    copy = tmp_path / "p"
    shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    with ExitStack() as running:
        for text in AMID.get(path.stem, []):
            follow(text, copy, running)
        for command in commands(path):
            if not command.needs:
                follow(command.text, copy, running)


def follow(text, project, running):
    """Do what a command line says; a service goes on beside those that come after."""
    for here, there in ELSEWHERE.items():
        text = text.replace(here, there)
    if text.startswith(SERVE):
        running.close()
        running.enter_context(service(text, project))
        return
    code, said = execute(text, project)
    codes, words = next((answer for begin, answer in ANSWERS.items() if text.startswith(begin)), ((0,), ""))
    assert code in codes, said
    assert words in said
