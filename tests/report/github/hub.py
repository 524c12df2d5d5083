"""The part of GitHub that reports touch: state in memory, behind real HTTP. `routes` says what each request does to it.

Each request is first shown to `validate`, where one is set. Faults are queued, and each happens once.
"""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

BOT = "github-actions[bot]"
REPOSITORY = "octo/model"
SHA = "5b" * 20


@dataclass
class Reply:
    status: int
    body: object = None
    headers: dict = field(default_factory=dict)


RESET = Reply(0)
"""The connection breaks instead of an answer."""


@dataclass
class Fault:
    """What happens to the next request that fits."""

    method: str
    path: str
    reply: Reply | None = None
    """Sent instead of the real reply."""
    arrives: bool = True
    """Whether the request takes effect."""
    meanwhile: Callable[[], object] = lambda: None
    """What somebody else does just before."""


class Hub:
    """A running server, its state, and what it was asked."""

    def __init__(self, routes):
        self.login, self.permissions = BOT, {"pull-requests", "statuses", "deployments", "issues", "contents"}
        self.pulls = {5: pull_request(5)}
        self.comments, self.statuses, self.deployments, self.deployment_statuses = {}, [], {}, []
        self.issues, self.merges, self.trees, self.commits, self.branches = {}, {}, {}, {}, {}
        self.pushes, self.requests, self.violations = {}, [], []
        self.first_bodies = {}
        self.validate = None
        self._faults, self._last_id, self._lock = [], 100, threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, routes))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def fail(self, method, path, reply, *, arrives=False, times=1):
        """The next requests that fit are answered so."""
        self._faults += [Fault(method, path, reply, arrives) for _ in range(times)]

    def meanwhile(self, method, path, action, times=1):
        """Just before the next requests that fit are handled, this happens."""
        self._faults += [Fault(method, path, meanwhile=action) for _ in range(times)]

    def fault(self, method, path):
        with self._lock:
            found = next((f for f in self._faults if f.method == method and re.search(f.path, path)), Fault("", ""))
            self._faults = [fault for fault in self._faults if fault is not found]
        return found

    def next_id(self):
        with self._lock:
            self._last_id += 1
            return self._last_id

    def comment(self, body, login=BOT, issue=5):
        """Somebody comments. Returns the comment's id."""
        number = self.next_id()
        self.first_bodies[number] = body
        self.comments[number] = {
            "id": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
            "html_url": f"https://github.com/{REPOSITORY}/pull/{issue}#issuecomment-{number}",
            "issue_url": f"{self.url}/repos/{REPOSITORY}/issues/{issue}",
            "body": body,
            "user": account(login),
        }
        return number

    def issue(self, title, body, labels=(), login=BOT, state="open"):
        """Somebody opens an issue. Returns its number."""
        number = self.next_id()
        self.issues[number] = {
            "number": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/{number}",
            "html_url": f"https://github.com/{REPOSITORY}/issues/{number}",
            "title": title,
            "body": body,
            "state": state,
            "labels": [{"name": name} for name in labels],
            "user": account(login),
        }
        return number

    def sent(self, *methods):
        """The requests with one of these methods, in order: (method, path)."""
        return [(method, path) for method, path, _ in self.requests if method in methods]


def account(login):
    """A deleted account is null."""
    return {"login": login, "id": 1, "type": "Bot" if login.endswith("[bot]") else "User"} if login else None


def pull_request(number, sha=SHA, repository=REPOSITORY, branch="deeper"):
    """Without a repository, that of a deleted fork."""
    repo = {"full_name": repository} if repository else None
    return {"number": number, "state": "open", "locked": False, "head": {"sha": sha, "ref": branch, "repo": repo}}


def refusal(status, message, **headers):
    """An error as GitHub words it; header names with underscores."""
    return Reply(status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()})


def _handler(hub, routes):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            hub.requests.append((self.command, self.path, json.loads(body) if body else None))
            if hub.validate and url.path != "/graphql":  # not part of the description
                hub.violations += hub.validate(self.command, self.path, self.headers, body)
            fault = hub.fault(self.command, self.path)
            fault.meanwhile()
            reply = fault.reply
            if fault.arrives:
                done = self.route(url, body)
                reply = reply or done
            self.send(reply)

        def route(self, url, body):
            if not re.fullmatch(r"(token|Bearer) secret", self.headers.get("authorization", "")):
                return refusal(401, "Bad credentials")
            for method, pattern, action in routes:
                found = re.fullmatch(pattern, url.path)
                if method == self.command and found:
                    arguments = [int(part) if part.isdigit() else part for part in found.groups()]
                    return action(hub, *arguments, **dict(parse_qsl(url.query)), **(json.loads(body) if body else {}))
            return refusal(404, "Not Found")

        def send(self, reply):
            if reply is RESET:
                # Closing with a linger of zero sends RST instead of FIN.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            raw = isinstance(reply.body, str)
            text = b"" if reply.body is None else (reply.body if raw else json.dumps(reply.body)).encode()
            self.send_response(reply.status)
            self.send_header("content-type", "text/html" if raw else "application/json; charset=utf-8")
            self.send_header("content-length", str(len(text)))
            for name, value in reply.headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments):
            """Tests read `hub.requests` instead."""

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one

    return Handler
