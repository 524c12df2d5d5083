"""How patient the supervisor is."""

import sys
from typing import Annotated

from pydantic import Field

from ci_tools.config import Config
from ci_tools.release.traffic.limits import Limits

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
SERVER = (sys.executable, "-P", "-m", "ci_tools.release.server")
"""-P: a file of the working directory may have the name of a module."""


class Settings(Config):
    """Of the supervisor; the defaults suit one machine."""

    address: str = "127.0.0.1"
    """IP address on which clients are served."""
    server_command: tuple[str, ...] = SERVER
    """Starts a model server, with `--bundle DIR --member NAME --port N --predictions FILE` behind it."""
    api_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """On which the controller was told to answer by HTTP, for people to be told; 0: by its socket only."""
    controller_command: tuple[str, ...] = ()
    """Starts the controller; empty: somebody else does."""
    limits: Limits = Limits()
    """Of the traffic."""
    poll_seconds: Seconds = 0.01
    """Between two looks at plan, lease and children."""
    heartbeat_seconds: Seconds = 0.5
    """Between two writings of actual.json when nothing changed."""
    start_seconds: Seconds = 120.0
    """For a model server to answer after it was started; then it counts as hanging."""
    probe_seconds: Seconds = 1.0
    """Between two questions to a model server whether it is ready, and the time it has for its answer."""
    probes: Count = 5
    """Questions in a row without a yes after which a server that was ready counts as hanging."""
    server_megabytes: Count = 8192
    """Memory beyond which a model server is ended, before it takes the machine with it."""
    failures: Count = 5
    """Ends within `failure_seconds` after which a server is given up; that of stable never is."""
    failure_seconds: Seconds = 120.0
    """Span in which a child's ends count together."""
    backoff_seconds: Seconds = 0.1
    """Before the second start in a row; doubled with each further one."""
    longest_backoff_seconds: Seconds = 5.0
    settle_seconds: Seconds = 0.5
    """Between Envoy's last way to a server and that server's end."""
    drain_seconds: Seconds = 15.0
    """For requests in flight, when a server or the service ends; longer than the deadline of a request."""
    log_megabytes: Count = 64
    """Size at which the access log is rotated."""
