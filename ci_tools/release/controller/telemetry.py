"""Is what is counted all that happened? Four things may be wrong, and none of them is the canary's fault."""

import re
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from ci_tools.release.plan import Actual

Answered = Callable[[Actual], int | None]
"""Requests that Envoy has answered since it began, by its own counters; None: it does not say."""
_COUNTER = re.compile(r"^http\.clients\.downstream_rq_completed: (\d+)$", re.MULTILINE)
_PATIENCE = 0.25
"""Seconds within which Envoy's administration answers."""


def answered(actual: Actual) -> int | None:
    """Ask Envoy's administration on loopback."""
    if not actual.admin_port:
        return None
    connection = HTTPConnection("127.0.0.1", actual.admin_port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/stats?filter=^http.clients.downstream_rq_completed$")
        found = _COUNTER.search(connection.getresponse().read().decode())
    except (OSError, HTTPException, UnicodeDecodeError):
        return None
    finally:
        connection.close()
    return int(found[1]) if found else None


class Telemetry:
    """Follows the access log beside Envoy's counters, and the supervisor's heartbeat."""

    def __init__(self, log: Path, silent_seconds: float, ask: Answered = answered) -> None:
        """Begin.

        Args:
            log: Envoy's access log.
            silent_seconds: after which silence is a loss.
            ask: for Envoy's counters.
        """
        self._log, self._silent, self._ask = log, silent_seconds, ask
        self._asked: tuple[float, int] | None = None
        self._told: tuple[int, tuple[int, int] | None] | None = None
        """Envoy's counter when the log last grew, and the log's inode and size then."""
        self._unheard_since: float | None = None
        self._damaged = 0
        self._damaged_at: float | None = None
        self.per_second = 0.0
        """Requests that Envoy answered, of late."""

    def look(self, now: float, actual: Actual, damaged: int) -> str:
        """What is wrong, in a sentence; empty: nothing.

        Args:
            now: boot time.
            actual: as the supervisor wrote it last.
            damaged: lines of it that could not be read, so far.
        """
        if self._asked is None or now - self._asked[0] >= self._silent / 3:
            self._count(now, self._ask(actual))
        if damaged > self._damaged:
            self._damaged_at = now
        self._damaged = damaged
        if now - actual.heartbeat > self._silent:
            return "The supervisor does not tell what runs" + (
                f", for {now - actual.heartbeat:.0f} s." if actual.heartbeat else "."
            )
        unheard = 0.0 if self._unheard_since is None else now - self._unheard_since
        if unheard > self._silent:
            return f"Envoy answers requests of which the access log says nothing, for {unheard:.0f} s."
        if self._damaged_at is not None and now - self._damaged_at <= 2 * self._silent:
            return f"{damaged:,} lines of the access log are damaged, the last one just now."
        return ""

    def _count(self, now: float, count: int | None) -> None:
        if count is None:
            self._asked, self._told, self._unheard_since = None, None, None
            return
        if self._asked is not None and now > self._asked[0] and count >= self._asked[1]:
            self.per_second = (count - self._asked[1]) / (now - self._asked[0])
        restarted = self._asked is not None and count < self._asked[1]
        self._asked, size = (now, count), self._size()
        if self._told is None or restarted or size != self._told[1]:
            self._told, self._unheard_since = (count, size), None
        elif count > self._told[0] and self._unheard_since is None:
            self._unheard_since = now

    def _size(self) -> tuple[int, int] | None:
        try:
            stat = self._log.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size
