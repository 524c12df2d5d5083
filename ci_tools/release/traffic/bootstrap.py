"""Envoy's static configuration: the listener, the pools without their servers, the access log, the administration."""

from pathlib import Path
from typing import Any

from ci_tools.release.traffic.files import ARM_HEADER, EVENT_HEADER, NAME, POOLS, ROUTES, servers_file
from ci_tools.release.traffic.limits import Limits

LINE = {
    "id": "%REQ(X-REQUEST-ID)%",
    "t": "%START_TIME(%s.%6f)%",
    "route": "%ROUTE_NAME%",
    "arm": f"%REQ({ARM_HEADER})%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "us": "%COMMON_DURATION(DS_RX_END:DS_TX_BEG:us)%",
    "ms": "%DURATION%",
    "event": f"%RESP({EVENT_HEADER})%",
}
"""One line of the access log; `access.entry` reads it."""
LISTENER, STATS = "clients", "clients"
READABLE = ("/ready", "/stats", "/clusters", "/server_info", "/listeners", "/config_dump", "/memory")
"""What the administration shows to anyone on this machine."""
DRAIN = "/drain_listeners"
"""The only change that it takes: end new connections."""
_TYPES = "type.googleapis.com/envoy"


def bootstrap(folder: Path, log: Path, address: str, port: int, admin_port: int, limits: Limits) -> dict[str, Any]:
    """The whole file.

    Args:
        folder: where the dynamic files lie (`files.Files`); absolute.
        log: of the requests; absolute.
        address: IP address that clients connect to.
        port: for clients.
        admin_port: for the administration, on loopback.
        limits: of the traffic.
    """
    return {
        "node": {"id": NAME, "cluster": NAME},
        "admin": {
            "address": _address("127.0.0.1", admin_port),
            "allow_paths": [*({"prefix": path} for path in READABLE), {"prefix": DRAIN}],
        },
        "static_resources": {
            "listeners": [_listener(folder, log, address, port, limits)],
            "clusters": [_cluster(pool, folder, limits) for pool in POOLS],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": limits.max_clients,
                    },
                }
            ]
        },
    }


def _listener(folder: Path, log: Path, address: str, port: int, limits: Limits) -> dict[str, Any]:
    return {
        "name": LISTENER,
        "address": _address(address, port),
        # With the kernel's sharing of ports, two services could take the same one and each get half of the requests.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": limits.max_request_bytes,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _http(folder, log, limits),
                    }
                ]
            }
        ],
    }


def _http(folder: Path, log: Path, limits: Limits) -> dict[str, Any]:
    return {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STATS,
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "request_headers_timeout": f"{limits.upload_seconds}s",
        "request_timeout": f"{limits.upload_seconds}s",
        "stream_idle_timeout": f"{limits.upload_seconds + limits.deadline_seconds}s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        # Ids pair a request with its mirrored copy and its label: one that a client repeats would pair wrong ones. So
        # each gets a new id, and the response says which. Nor may a client choose its arm, its retries or its deadline.
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [
                        {"remove": "x-request-id"},
                        {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}},
                        {"remove_on_match": {"key_matcher": {"prefix": "x-switchback-"}}},
                    ],
                },
            }
        ],
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "rds": {"route_config_name": NAME, "config_source": _file(folder / ROUTES)},
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": limits.max_request_bytes,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        # The protocol's form of an error, for those that Envoy answers itself.
        "local_reply_config": {"body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}},
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {"json_format": LINE},
                },
            }
        ],
    }


def _cluster(pool: str, folder: Path, limits: Limits) -> dict[str, Any]:
    """One pool. No outlier ejection: a server that fails must be seen to fail, by the judge."""
    limit = {
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending,
        "max_requests": limits.max_connections + limits.max_pending,
        "max_retries": limits.max_connections + limits.max_pending,
    }
    return {
        "name": pool,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file(folder / servers_file(pool))},
        "connect_timeout": f"{limits.connect_seconds}s",
        "circuit_breakers": {"thresholds": [limit]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{limits.idle_seconds}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _file(path: Path) -> dict[str, Any]:
    """Read from a file, and again whenever another is renamed to it.

    Not whenever anything in its folder is: then one rename would have Envoy read all files, in an order of its own.
    """
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
