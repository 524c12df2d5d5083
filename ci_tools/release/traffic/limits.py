"""What Envoy allows: sizes, times and numbers beyond which it refuses rather than waits."""

from typing import Annotated

from pydantic import Field

from ci_tools.config import Config

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(Config):
    """Of the traffic; the defaults suit small models on one machine."""

    deadline_seconds: Seconds = 10.0
    """From the whole request to the whole response, retries included; then the client gets 504."""
    connect_seconds: Seconds = 0.25
    """To connect to a model server on the same machine; then stable gets the request."""
    max_request_bytes: Count = 8 << 20
    """Of a request's body; a larger one gets 413."""
    max_connections: Count = 1024
    """From Envoy to one pool, and requests in flight on them; more wait."""
    max_pending: Count = 1024
    """Requests that wait for a connection to one pool; more get 503."""
    max_clients: Count = 10_000
    """Connections of clients; more are closed."""
    upload_seconds: Seconds = 30.0
    """For a client to send its whole request."""
    idle_seconds: Seconds = 5.0
    """Until an unused connection to a model server is closed; less than the server's own limit, so that no request
    meets a connection that is being closed.
    """
    workers: Count = 2
    """Threads of Envoy."""
