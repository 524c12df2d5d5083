"""What a model server may be told."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ci_tools.config import Config

Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(ge=1)]


class Settings(Config):
    """One model server; the flags of its command line, with `-` for `_`."""

    bundle: Path
    """Folder of the bundle; verified before it is loaded."""
    member: str
    """Name of this server in logs and metrics."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """TCP port to listen on."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    predictions: Path | None = None
    """File that gets one line of JSON per answer; none is written where it is not named."""
    trust_key: tuple[Path, ...] = ()
    """Public key (PEM) whose signature counts; may be given again. Without any key and identity: this user's own."""
    trust_identity: str = ""
    """Identity whose signature counts, by Sigstore's keyless way."""
    trust_issuer: str = "https://token.actions.githubusercontent.com"
    """Who vouches for that identity."""
    trust_config: Path | None = None
    """Sigstore's own keys and addresses, as a file; without, they are asked for over the network."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model runs."""
    threads: Count = 1
    """Threads of one inference. With more than one, sums may be taken in another order."""
    batch_rows: Count = 256
    """Rows that requests which wait together may fill; a larger request runs alone. 1: every request runs alone."""
    batch_delay_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """How long a request waits for others while the model is idle, in milliseconds."""
    queue: Count = 512
    """Requests that may wait for the model; the next is answered with 503."""
    timeout_ms: Annotated[float, Field(gt=0)] = 10_000.0
    """Deadline of a request that names none, in milliseconds from its arrival; also the longest that one may name."""
    body_bytes: Count = 4 << 20
    """Size of the largest request body."""
    drain_seconds: Seconds = 10.0
    """After SIGTERM: how long requests are still taken, while they keep coming; then they get 503."""
    memory_mb: Annotated[int, Field(ge=0)] = 0
    """Resident memory above which the server ends itself, in MB (10⁶ bytes); 0 for no limit."""
    rotate_bytes: Count = 64 << 20
    """Size at which the prediction log is renamed to `.1` and begun anew."""
