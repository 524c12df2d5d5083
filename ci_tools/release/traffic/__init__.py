"""Who gets which request: Envoy's configuration, written from a plan, and what Envoy tells about each request."""

from ci_tools.release.traffic.access import AccessLog, Entry, Position

__all__ = ["AccessLog", "Entry", "Position"]
