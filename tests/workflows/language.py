"""GitHub's own parser of workflows and evaluator of expressions, in a node process that is asked and answers.

The packages come from npm, pinned by npm/package-lock.json. They import JSON in a way that not every node understands,
so esbuild makes one file of them and of npm/answer.mjs.
"""

import fcntl
import json
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PINS = Path(__file__).parent / "npm"
BUILD = Path(__file__).parents[2] / "build" / "github-workflows"
INSTALL_S = 240
STATUSES = {
    "success": {"success": True},
    "failure": {"failure": True},
    "cancelled": {"cancelled": True},
    "skipped": {},
}
"""What the status functions of an expression say after what came before it ended so."""


class NotUnderstood(Exception):
    """GitHub would refuse this workflow, action or expression."""


class Language:
    """What GitHub makes of a text."""

    def __init__(self, program):
        command = ["node", program]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._known, self._read = {}, {}

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def workflow(self, path, content, files):
        """A workflow as plain values; conditions tell the status that they demand, expressions stay `${{ … }}`.

        `files` holds the workflows that it may call, content by path.
        """
        return self._tree(ask="workflow", path=path, content=content, files=files)

    def action(self, path, content):
        """An action.yml, in the same way."""
        return self._tree(ask="action", path=path, content=content)

    def value(self, expression, contexts, status="success"):
        """What an expression comes to, as JSON has it, where everything before ended with this status."""
        return self._evaluated(expression, contexts, status)["value"]

    def filled(self, written, contexts, status="success"):
        """A value of a workflow with its expressions replaced, as the runner does it."""
        if isinstance(written, dict):
            return {key: self.filled(value, contexts, status) for key, value in written.items()}
        if isinstance(written, list):
            return [self.filled(value, contexts, status) for value in written]
        if (expression := expression_of(written)) is None:
            return written
        return self.value(expression, contexts, status)

    def reads(self, expression):
        """The values that an expression may read, `secrets.TOKEN` for instance, and its literals."""
        if expression not in self._read:
            answer = self._ask(ask="accesses", expression=expression)
            self._read[expression] = tuple(answer["accesses"]), tuple(answer["literals"])
        return self._read[expression]

    def _evaluated(self, expression, contexts, status):
        roots = {path.partition(".")[0] for path in self.reads(expression)[0]}
        needed = {name: value for name, value in contexts.items() if name in roots}
        return self._ask(ask="evaluate", expression=expression, contexts=needed, status=STATUSES[status])

    def _tree(self, **question):
        answer = self._ask(**question)
        if answer["errors"]:
            raise NotUnderstood("; ".join(answer["errors"]))
        return answer["tree"]

    def _ask(self, **question):
        line = json.dumps(question)
        if line not in self._known:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            self._known[line] = json.loads(self._process.stdout.readline())
        answer = self._known[line]
        if "error" in answer:
            raise NotUnderstood(f"{question.get('expression') or question['path']}: {answer['error']}")
        return answer


def expression_of(written):
    """The expression that a value of a parsed workflow is; None where it is plain."""
    if isinstance(written, str) and written.startswith("${{") and written.endswith("}}"):
        return written[3:-2].strip()
    return None


def text(value):
    """A value as GitHub writes it into text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@cache
def why_not():
    """Why there is no node program to ask; empty where there is one."""
    try:
        installed()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


@contextmanager
def asked():
    language = Language(installed())
    try:
        yield language
    finally:
        language.close()


def installed():
    """Path of the program, after making it where the pins or its source changed.

    Raises:
        OSError: npm is missing or did not deliver.
    """
    if not shutil.which("npm"):
        raise OSError("npm is not installed")
    BUILD.mkdir(parents=True, exist_ok=True)
    stamp, program = BUILD / "installed", BUILD / "answer.cjs"
    wanted = "".join((PINS / name).read_text() for name in ("package-lock.json", "answer.mjs"))
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes start side by side
        if not stamp.exists() or stamp.read_text() != wanted:
            for name in PINS.iterdir():
                shutil.copy(name, BUILD)
            _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1")
            bundle = ("--bundle", "--platform=node", "--format=cjs", "--log-level=warning", f"--outfile={program}")
            _run("node_modules/.bin/esbuild", "answer.mjs", *bundle)
            stamp.write_text(wanted)
    return program


def _run(*command):
    done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.split())[:300]}")
