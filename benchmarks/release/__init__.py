"""Drills of the release service: a whole one in a folder, traffic on it, and what goes wrong, planted.

    service.Service      supervisor, Envoy, controller, model servers, bundles, a key
    traffic.Traffic      requests at a steady rate from a process of its own; what their clients saw
    server               the model server, with faults in it on demand

Used by the benches `rollback`, `load`, `release_kills` and `release_faults`, and by tests/release.
"""
