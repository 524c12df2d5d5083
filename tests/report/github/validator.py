"""GitHub's own descriptions of its API, held against requests. They and Prism come from npm, pinned by its lock file.

The OpenAPI description has 800 paths, of which Prism makes sense in a quarter of a minute. It is given only those that
reports use, unchanged; a request to any other path breaks the description by not being in it.
"""

import fcntl
import http.client
import json
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

PINS = Path(__file__).parent / "npm"
BUILD = Path(__file__).parents[3] / "build" / "github-description"
REPOSITORY = "/repos/{owner}/{repo}"
PATHS = [
    f"{REPOSITORY}/commits/{{commit_sha}}/pulls",
    f"{REPOSITORY}/commits/{{ref}}/status",
    f"{REPOSITORY}/compare/{{basehead}}",
    f"{REPOSITORY}/deployments",
    f"{REPOSITORY}/deployments/{{deployment_id}}/statuses",
    f"{REPOSITORY}/git/commits",
    f"{REPOSITORY}/git/matching-refs/{{ref}}",
    f"{REPOSITORY}/git/refs",
    f"{REPOSITORY}/git/refs/{{ref}}",
    f"{REPOSITORY}/git/trees",
    f"{REPOSITORY}/issues",
    f"{REPOSITORY}/issues/comments/{{comment_id}}",
    f"{REPOSITORY}/issues/{{issue_number}}",
    f"{REPOSITORY}/issues/{{issue_number}}/comments",
    f"{REPOSITORY}/pulls",
    f"{REPOSITORY}/pulls/{{pull_number}}",
    f"{REPOSITORY}/statuses/{{sha}}",
]
INSTALL_S, START_S = 240, 120
ASK_GRAPHQL = """
import { validate } from "@octokit/graphql-schema";
for (const error of validate(process.argv[1])) console.log(error.message);
"""


class Prism:
    """A validator that gets ready in the background."""

    def __init__(self):
        self.why_not, self._process = "", None
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    def ready(self):
        """Wait until it can validate, or is known not to be able to; `why_not` says why."""
        self._starting.join()
        return not self.why_not

    def violations(self, method, path, headers, body):
        """What the description has against a request, a line each."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        # OpenAPI describes no Accept header; Prism knows none of the media types of GitHub's former previews.
        left_out = ("host", "connection", "accept")
        kept = {name: value for name, value in headers.items() if name.lower() not in left_out}
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.getheader("content-type", "").startswith("application/problem"):
            return [f"{method} {path}: {text}"]
        # Prism also checks what it answers, and some of GitHub's own examples break GitHub's description.
        told = json.loads(answer.getheader("sl-violations", "[]"))
        return [f"{method} {path}: {one}" for one in told if one["location"][0] == "request"]

    def graphql_violations(self, query):
        """What GitHub's GraphQL schema has against a query, a line each."""
        asked = ["node", "--input-type=module", "--eval", ASK_GRAPHQL, query]
        return subprocess.run(asked, cwd=BUILD, check=True, capture_output=True, text=True).stdout.splitlines()

    def close(self):
        self._starting.join()
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._log.join()
            self._process.stdout.close()

    def _start(self):
        try:
            description = installed()
            with socket.create_server(("127.0.0.1", 0)) as free:
                self._port = free.getsockname()[1]
            command = ["node", BUILD / "node_modules/.bin/prism", "mock", "--port", str(self._port)]
            self._process = subprocess.Popen([*command, description], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except (OSError, subprocess.SubprocessError) as error:
            self.why_not = f"{error}"
            return
        too_long = threading.Timer(START_S, self._process.kill)
        too_long.start()
        lines = []
        for line in self._process.stdout:
            lines.append(line.decode())
            if b"is listening" in line:
                break
        else:
            self.why_not = f"Prism ended: {''.join(lines)}"
        too_long.cancel()
        # Read on, lest it stops at a full pipe.
        self._log = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._log.start()


@contextmanager
def starting():
    prism = Prism()
    try:
        yield prism
    finally:
        prism.close()


def installed():
    """Path of the description, after installing it and Prism where the pins changed."""
    if not shutil.which("npm"):
        raise OSError("npm is not installed")
    BUILD.mkdir(parents=True, exist_ok=True)
    stamp, description = BUILD / "installed", BUILD / "description.json"
    wanted = (PINS / "package-lock.json").read_text() + "\n".join(PATHS)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes start side by side
        if not stamp.exists() or stamp.read_text() != wanted:
            for pins in PINS.iterdir():
                shutil.copy(pins, BUILD)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
            done = subprocess.run(install, cwd=BUILD, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode:
                raise OSError(f"npm ci: {' '.join(done.stderr.split())[:300]}")
            package = BUILD / "node_modules/@octokit/openapi"
            whole = json.loads((package / "generated/api.github.com.json").read_text())
            description.write_text(json.dumps(part(whole, PATHS)))
            shutil.rmtree(package)  # 400 MB
            stamp.write_text(wanted)
    return description


def part(whole, paths):
    """A description of some of the paths, with all that they refer to."""
    kept = {"paths": {path: whole["paths"][path] for path in paths}, "components": {}}
    todo = [kept["paths"]]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str):
                _, _, kind, name = reference.split("/")
                if name not in kept["components"].setdefault(kind, {}):
                    kept["components"][kind][name] = whole["components"][kind][name]
                    todo.append(whole["components"][kind][name])
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    return {name: whole[name] for name in ("openapi", "info", "servers")} | kept
