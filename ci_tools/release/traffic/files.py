"""Envoy's dynamic files: one with the routes, one per pool with its servers. Envoy takes each when it is renamed.

A safe route is written before a route with weights is, so that going back needs a rename only and no free disk space.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ci_tools.errors import SwitchbackError
from ci_tools.files import write_atomic
from ci_tools.release.plan import Role
from ci_tools.release.traffic.access import ARMS
from ci_tools.release.traffic.limits import Limits
from ci_tools.release.traffic.routing import NOTHING, PARTS, Routing

ROUTES, PREPARED = "routes.json", "routes.safe.json"
MIRROR = "mirror"
POOLS = (*ARMS, MIRROR)
"""Envoy's clusters."""
ARM_HEADER, MIRROR_HEADER, EVENT_HEADER = "x-switchback-arm", "x-switchback-mirror", "x-switchback-event"
NAME = "switchback"
_INFER = "/v2/models/.+/infer"
"""Of any model and version: a name may hold slashes, which clients send as they are or escaped."""
_TYPES = "type.googleapis.com/envoy"
_MILLION = 1_000_000


class Files:
    """The folder, and what was last put there."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.published = NOTHING
        self._prepared = NOTHING
        self._written: dict[str, str] = {}

    def publish(self, routing: Routing) -> None:
        """Put `routing` in force: servers before the weights that need them, weights before the servers they free.

        Raises:
            OSError, SwitchbackError: the disk is full or not writable. Then all traffic is on stable: weights that
                cannot be changed are not the ones that were asked for.
        """
        text = {name: json.dumps(body) for name, body in _files(routing, self.limits).items()}
        first = [servers_file(pool) for pool in POOLS if _gains(pool, self.published, routing)]
        order = [*first, ROUTES, *(name for name in text if name not in first and name != ROUTES)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # Envoy is started anew where it lost sight of the old one
            if routing.leased:
                self._put(PREPARED, json.dumps(_routes(routing.safe(), self.limits)))
                self._prepared = routing.safe()
            for name in order:
                self._put(name, text[name])
        except (OSError, SwitchbackError):
            self._fall_back()
            raise
        self.published = routing

    def renew(self) -> None:
        """Write all of it once more, whatever became of the files.

        Raises:
            OSError, SwitchbackError: as `publish`.
        """
        self._written = {name: text for name, text in self._written.items() if name == PREPARED}
        self.publish(self.published)

    def _put(self, name: str, text: str) -> None:
        """Replace a file, atomically; one that says the same already is left alone."""
        if self._written.get(name) == text:
            return
        if not (name == ROUTES and text == self._written.get(PREPARED) and self._take_prepared()):
            write_atomic(self.folder / name, text, durable=False)
        self._written[name] = text

    def _take_prepared(self) -> bool:
        """Put the safe route that was prepared in force, which needs no space; whether it was still there."""
        del self._written[PREPARED]
        try:
            (self.folder / PREPARED).replace(self.folder / ROUTES)
        except FileNotFoundError:  # somebody cleans up here
            return False
        return True

    def _fall_back(self) -> None:
        """Back to stable, by the route that was prepared for whatever plan."""
        text = self._written.get(PREPARED)
        if self.published.leased and text is not None and self._take_prepared():
            self._written[ROUTES] = text
            self.published = replace(self.published.safe(), serial=self._prepared.serial)


def _files(routing: Routing, limits: Limits) -> dict[str, dict[str, Any]]:
    """By file name, all that Envoy reads."""
    servers = {servers_file(pool): _servers(pool, _ports(routing, pool)) for pool in POOLS}
    return {ROUTES: _routes(routing, limits)} | servers


def _gains(pool: str, before: Routing, after: Routing) -> bool:
    """Whether a pool gets servers of its own, which it had not."""
    role = Role.CANARY if pool == MIRROR else pool
    return bool(after.ports_of(role)) and not before.ports_of(role)


def _ports(routing: Routing, pool: str) -> tuple[int, ...]:
    """Of a pool's servers. One that has none gets stable's: Envoy's threads may still route to it for a moment."""
    if pool == MIRROR:
        return routing.canary[:1]
    return routing.ports_of(pool) or routing.stable[:1]


def servers_file(pool: str) -> str:
    """Name of the file with a pool's servers."""
    return f"servers.{pool}.json"


def _servers(pool: str, ports: tuple[int, ...]) -> dict[str, Any]:
    """One priority per server: a request goes to the first, its retry to the next."""
    endpoints = [
        {
            "priority": priority,
            "lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
            ],
        }
        for priority, port in enumerate(ports)
    ]
    assignment = f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment"
    return {"resources": [{"@type": assignment, "cluster_name": pool, "endpoints": endpoints}]}


def _routes(routing: Routing, limits: Limits) -> dict[str, Any]:
    """Inference by weight, whatever else the protocol has to stable, nothing else at all."""
    if routing.stable:
        routes = [
            {
                "name": routing.name,
                "match": {
                    "safe_regex": {"regex": _INFER},
                    "headers": [{"name": ":method", "string_match": {"exact": "POST"}}],
                },
                # Envoy puts `-shadow` behind a copy's host: what a client puts there must not make its request one.
                "route": {"host_rewrite_literal": NAME} | _weighted(routing) | _mirroring(routing) | _attempts(limits),
            },
            {
                "name": "other",
                "match": {"path_separated_prefix": "/v2"},
                "route": {"cluster": Role.STABLE} | _attempts(limits),
            },
        ]
    else:
        routes = [_refusal({"path_separated_prefix": "/v2"}, 503, "no model is being served yet")]
    routes.append(_refusal({"prefix": "/"}, 404, "no such path: this service speaks the Open Inference Protocol v2"))
    return {
        "version_info": routing.name,
        "resources": [
            {
                "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
                "name": NAME,
                "virtual_hosts": [{"name": NAME, "domains": ["*"], "routes": routes}],
            }
        ],
    }


def _weighted(routing: Routing) -> dict[str, Any]:
    """The pools with their weights. The arm travels in a header, which a retry on another server does not change."""
    parts = {Role.CANARY: routing.canary_parts, Role.BASELINE: routing.baseline_parts}
    parts[Role.STABLE] = PARTS - sum(parts.values())
    clusters = []
    for arm, weight in parts.items():
        headers = {ARM_HEADER: str(arm)} | ({} if arm is Role.CANARY else {MIRROR_HEADER: MIRROR})
        added = [
            {"header": {"key": key, "value": value}, "append_action": _OVERWRITE} for key, value in headers.items()
        ]
        if weight > 0:
            clusters.append({"name": arm, "weight": weight, "request_headers_to_add": added})
    return {"weighted_clusters": {"clusters": clusters}}


def _mirroring(routing: Routing) -> dict[str, Any]:
    """Copies go to the cluster that the header names: the canary's own requests have none, and need no copy."""
    if routing.mirror_share == 0:
        return {}
    share = {"numerator": round(routing.mirror_share * _MILLION), "denominator": "MILLION"}
    return {
        "request_mirror_policies": [
            {"cluster_header": MIRROR_HEADER, "runtime_fraction": {"default_value": share}},
        ]
    }


def _attempts(limits: Limits) -> dict[str, Any]:
    """One retry, by the server of the next priority, if the first gave no answer at all; inference has no effects."""
    return {
        "timeout": f"{limits.deadline_seconds}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset",
            "num_retries": 1,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    "update_frequency": 1,
                },
            },
        },
    }


def _refusal(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": text}}}


_OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
