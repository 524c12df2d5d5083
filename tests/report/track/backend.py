"""A stand-in for W&B's servers that takes what the real client sends and keeps it for the tests to look at.

It speaks the part of the protocol that a run needs: GraphQL for runs and artifacts, the file stream for history and
summary, and plain uploads. An operation that it does not know is refused and remembered in `unknown`.
"""

import base64
import json
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

KEY = "a" * 40
ENTITY = "team"
WHEN = "2026-11-21T10:00:00"


@dataclass
class Run:
    """What W&B would know of one run."""

    id: str
    project: str
    about: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    lines: dict = field(default_factory=lambda: defaultdict(list))
    files: dict = field(default_factory=dict)
    exit_code: int | None = None
    started: int = 0

    @property
    def history(self):
        return [json.loads(line) for line in self.lines["wandb-history.jsonl"]]

    @property
    def summary(self):
        return json.loads((self.lines["wandb-summary.json"] or ["{}"])[-1])


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    name: str
    kind: str
    digest: str
    run: str
    metadata: dict
    state: str = "PENDING"
    files: dict = field(default_factory=dict)
    manifest: dict = field(default_factory=dict)
    used_by: list = field(default_factory=list)


class Backend:
    """The server. `start` and `stop` may alternate; what was stored stays, and so does the address."""

    def __init__(self):
        self.runs, self.artifacts, self.views = {}, [], []
        self.operations, self.unknown = [], []
        self.refuses_key = False
        self.alive = False
        self.lock = threading.RLock()
        self.port, self._server = 0, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.alive = True
        handler = type("Handler", (_Handler,), {"backend": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self.alive = False  # for connections that are open
        self._server.shutdown()
        self._server.server_close()

    def artifact(self, name):
        (found,) = [one for one in self.artifacts if one.name == name]
        return found

    # -- GraphQL ------------------------------------------------------------------------------------------------

    def answer(self, operation, v):
        with self.lock:
            self.operations.append(operation)
            method = getattr(self, f"on_{operation}", None)
            if method is None:
                self.unknown.append((operation, v))
                return None
            return method(v)

    def on_ServerFeaturesQuery(self, v):
        return {"serverInfo": {"features": []}}

    def on_Viewer(self, v):
        return {"viewer": {"id": "1", "entity": ENTITY, "username": "u", "email": "", "flags": "{}", "teams": None}}

    def on_RunResumeStatus(self, v):
        project = {"id": "p", "name": v["project"], "entity": {"id": "e", "name": ENTITY}}
        return {"model": project | {"bucket": _bucket(self.runs.get(v["name"]))}}

    def on_UpsertBucket(self, v):
        new = v["name"] not in self.runs
        run = self.runs.setdefault(v["name"], Run(v["name"], v["project"]))
        run.about |= {key: value for key, value in v.items() if value is not None and key != "config"}
        run.started += 1
        if v.get("config"):
            run.config = {key: entry["value"] for key, entry in json.loads(v["config"]).items()}
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": new}}

    def on_CreateRunFiles(self, v):
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/run/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def on_ArtifactType(self, v):
        return {"project": {"artifact": None}}

    def on_FetchArtifactDigestAlgorithm(self, v):
        return {"project": None}

    def on_XXHashDigestsEnabled(self, v):
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_CreateArtifact(self, v):
        given = v["input"]
        name, digest = given["artifactCollectionName"], given["digest"]
        found = next((one for one in self.artifacts if (one.name, one.digest) == (name, digest)), None)
        if found is None:
            metadata = json.loads(given.get("metadata") or "{}")
            identity = base64.b64encode(f"Artifact:{len(self.artifacts) + 1}".encode()).decode()
            found = Artifact(identity, name, given["artifactTypeName"], digest, given["runName"], metadata)
            self.artifacts.append(found)
        sequence = {"id": name, "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": found.id, "state": found.state, "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, v):
        file = {"id": "f", "uploadUrl": f"{self.url}/storage/manifest/{v['artifactID']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"M{v['artifactID']}", "file": file}}}

    def on_CreateArtifactFiles(self, v):
        edges = []
        for spec in v["input"]["artifactFiles"]:
            path = f"artifact/{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/storage/{path}", "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_CommitArtifact(self, v):
        found = self._by_id(v["artifactID"])
        found.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": found.id, "digest": found.digest}}}

    def on_UseArtifact(self, v):
        found = self._by_id(v["input"]["artifactID"])
        found.used_by.append(v["input"]["runName"])
        return {"useArtifact": {"artifact": {"id": found.id}}}

    # -- reports, as the package wandb-workspaces makes them ----------------------------------------------------

    def on_GetDefaultEntity(self, v):
        return {"viewer": {"id": "1", "entity": ENTITY}}

    def on_ProjectInternalId(self, v):
        return {"project": {"internalId": "UHJvamVjdEludGVybmFsSWQ6NDI="}}

    def on_GetProjects(self, v):
        common = {"__typename": "Project", "entityName": ENTITY, "createdAt": WHEN, "isBenchmark": False, "user": None}
        names = {run.project for run in self.runs.values()}
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": common | {"id": n, "name": n}} for n in names]}}

    def on_ProjectViews(self, v):
        edges = [
            {"node": view | {"user": None, "description": "", "createdAt": WHEN, "updatedAt": WHEN}, "cursor": ""}
            for view in self.views
        ]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": "", "hasNextPage": False}}}}

    def on_upsertView(self, v):
        project = {"id": "p", "name": v["projectName"], "entityName": v["entityName"]}
        view = {key: v[key] for key in ("name", "displayName", "description", "spec", "type")}
        self.views.append(view | {"id": f"view{len(self.views) + 1}", "project": project})
        return {"upsertView": {"view": self.views[-1] | {"updatedAt": WHEN}, "inserted": True}}

    def _by_id(self, identity):
        return next(one for one in self.artifacts if one.id == identity)

    # -- files --------------------------------------------------------------------------------------------------

    def stream(self, run_id, body):
        with self.lock:
            run = self.runs[run_id]
            for name, part in body.get("files", {}).items():
                lines = run.lines[name]
                lines[part["offset"] : part["offset"] + len(part["content"])] = part["content"]
            if body.get("exitcode") is not None:
                run.exit_code = body["exitcode"]
        return {"limits": {}}

    def store(self, path, content):
        with self.lock:
            kind, _, rest = path.partition("/")
            owner, _, name = rest.partition("/")
            if kind == "run":
                self.runs[owner].files[name] = content
            elif kind == "manifest":
                self._by_id(owner).manifest = json.loads(content)
            else:
                self._by_id(owner).files[name] = content


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        """A client that hangs up is no error of the backend's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: Backend

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.backend.alive:
            self.close_connection = True
            return
        key = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if self.backend.refuses_key or key != f"api:{KEY}":
            self._send(401, {"errors": [{"message": "user is not logged in"}]})
        elif self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
            data = self.backend.answer(operation, request.get("variables") or {})
            known = {"data": data} if data is not None else {"errors": [{"message": f"unknown {operation}"}]}
            self._send(200 if data is not None else 400, known)
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._send(200, self.backend.stream(found[1], json.loads(body)))
        else:
            self.backend.unknown.append(("POST", self.path))
            self._send(404, {})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.backend.store(unquote(self.path).removeprefix("/storage/"), content)
        self._send(200, {})

    def do_GET(self):
        self.backend.unknown.append(("GET", self.path))
        self._send(404, {})

    def _send(self, status, values):
        content = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """The tests look at the backend, not at its log."""


def _bucket(run):
    if run is None:
        return None
    history = run.lines["wandb-history.jsonl"]
    return {
        "id": f"id-{run.id}",
        "name": run.id,
        "displayName": run.about.get("displayName"),
        "description": None,
        "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
        "sweepName": None,
        "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
        "summaryMetrics": json.dumps(run.summary),
        "logLineCount": 0,
        "historyLineCount": len(history),
        "eventsLineCount": len(run.lines["wandb-events.jsonl"]),
        "historyTail": json.dumps(history[-1:]),
        "eventsTail": "[]",
        "tags": run.about.get("tags") or [],
        "notes": None,
        "wandbConfig": json.dumps({"t": run.config.get("_wandb", {}).get("t")}),
    }
