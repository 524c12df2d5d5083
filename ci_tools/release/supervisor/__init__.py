"""`switchback serve`: the process that owns Envoy, the model servers and the controller."""

from ci_tools.release.supervisor.settings import Settings
from ci_tools.release.supervisor.supervisor import Supervisor

__all__ = ["Settings", "Supervisor"]
