"""Requests under way, and the deadline of each."""

import asyncio
import time
from typing import Any

SWEEP_SECONDS = 0.01
"""How much later than its deadline a request may be told so."""


class Flight:
    """One inference request, from its head to its answer."""

    __slots__ = ("answer", "expired", "id", "limit_ms", "mirror", "started", "task")

    def __init__(self, identity: str, mirror: bool, limit_ms: float) -> None:
        self.id, self.mirror, self.limit_ms = identity, mirror, limit_ms
        self.started = time.perf_counter()
        self.expired = False
        """Whether its deadline has passed; then its task is cancelled."""
        self.answer: asyncio.Future[Any] | None = None
        self.task = asyncio.current_task()

    @property
    def ms(self) -> float:
        """Milliseconds since it came."""
        return (time.perf_counter() - self.started) * 1e3


class Flights:
    """All requests under way. One timer looks after all deadlines: one each would cost more than a small model."""

    def __init__(self) -> None:
        self._open: set[Flight] = set()
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, flight: Flight) -> None:
        """Watch its deadline."""
        self._open.add(flight)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def end(self, flight: Flight) -> None:
        """It is answered."""
        self._open.discard(flight)

    def _sweep(self) -> None:
        now = time.perf_counter()
        for flight in self._open:
            if not flight.expired and now - flight.started > flight.limit_ms / 1e3 and flight.task is not None:
                flight.expired = True
                flight.task.cancel()
        if self._open:
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        else:
            self._sweeping = False
