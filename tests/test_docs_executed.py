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
from ci_tools.release.supervisor.server import free_port
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
ELSEWHERE = {
    "switchback serve": "switchback serve --port PORT",
    "127.0.0.1:8000": "127.0.0.1:PORT",
    "/var/lib/node_exporter/textfile": "textfile",
}
"""What a test must not touch, and what it takes instead; PORT is a free one."""
SECONDS = 600
"""After which a command hangs."""
TABLE = "switchback run --set data.source=table"
"""Tries a reader's own data; what comes after it in a document is about the shipped data again."""
ANSWERS = {
    "make run": ((0, 3), ""),  # a busy machine gives the rehearsal too little evidence
    TABLE: ((0, 1, 3), "report: report/index.html"),  # the floors are those of other data
    "switchback run": ((0, 3), ""),
    "switchback rollback": ((2,), "nothing to roll back"),
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
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"HOME": str(project / "home"), "PYTHONPATH": str(project), "WANDB_MODE": "offline", "DVC_NO_ANALYTICS": "1"}
    names = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {"PATH": search, "LANG": "C.UTF-8"} | own | names


class Reader(ExitStack):
    """Does what command lines say, each in the folder to which the one before it went.

    A service goes on beside those that come after it.
    """

    def __init__(self, project):
        super().__init__()
        self.project = self.folder = project
        self.port = "0"

    def follow(self, text):
        for here, there in ELSEWHERE.items():
            text = text.replace(here, there)
        if text.startswith("switchback serve"):
            self.close()
            self.port = str(free_port(set()))
            self.enter_context(service(text.replace("PORT", self.port), self.project))
        elif text.startswith("curl -s http"):  # the champion's server may still start
            wait_for(lambda: '"outputs"' in self.execute(text.replace("PORT", self.port)))
        elif text.startswith(TABLE):
            aside = self.project.with_name("aside")
            shutil.copytree(self.project, aside, symlinks=True)
            Reader(aside).execute(text)
        elif text.startswith("cd "):
            self.folder /= text.removeprefix("cd ")
        else:
            self.execute(text.replace("PORT", self.port))

    def execute(self, text):
        """What a command says that is run as a reader types it; a failed test shows it."""
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.folder,
            env=environment(self.project),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        said = f"$ {text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        codes, words = next((answer for begin, answer in ANSWERS.items() if text.startswith(begin)), ((0,), ""))
        assert done.returncode in codes, said
        assert words in said
        return said


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
        "switchback bundle --name fraud",
    ]:
        Reader(root).follow(command)
    (bundle,) = (root / "bundles").iterdir()
    for name in ("DIGEST", "fraud"):
        shutil.copytree(bundle, root / "bundles" / name)  # signatures hold for no link
    for name in ("FILE.csv", "adult.csv"):
        written(root / name)
    shutil.copy(root / "report/results.json", root / "results.json")
    (root / "labels.jsonl").write_text("")
    shutil.copy(public_beside(root / "home/.config/switchback/signing.pem"), root / "ci.pub")
    return root


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if commands(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_commands_work_in_the_order_of_the_document(path, project, tmp_path):
    copy = tmp_path / "p"
    shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    with Reader(copy) as reader:
        for text in [*AMID.get(path.stem, []), *(command.text for command in commands(path) if not command.needs)]:
            reader.follow(text)
