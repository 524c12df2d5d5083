"""The end of the ledger, and a release's weights over time, kept up to date by reading only what is new."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from ci_tools.release.control import Control, Event

SHOWN = 40
"""Events that the page lists."""
_PAGE = 1000
_POINTS = 2000
"""Weight changes of one release that are remembered."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read so far."""

    head: Event | None
    """The newest event."""
    events: tuple[Event, ...]
    """The newest ones, oldest first."""
    weights: tuple[tuple[float, float], ...]
    """(seconds since the release began, canary's weight) at each change, of the newest release."""


class Tail:
    """Reads behind where it stopped; usable from several threads."""

    def __init__(self, control: Control) -> None:
        self._control, self._lock = control, Lock()
        self._events: deque[Event] = deque(maxlen=SHOWN)
        self._weights: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self._release, self._began = "", 0.0

    def look(self) -> Seen:
        """What is there now."""
        with self._lock:
            while news := self._control.events(self._events[-1].seq if self._events else 0, _PAGE):
                for event in news:
                    self._add(event)
                if len(news) < _PAGE:
                    break
            return Seen(
                head=self._events[-1] if self._events else None,
                events=tuple(self._events),
                weights=tuple(self._weights),
            )

    def _add(self, event: Event) -> None:
        self._events.append(event)
        if not event.release:
            return
        at = datetime.fromisoformat(event.at).timestamp()
        if event.release != self._release:
            self._release, self._began = event.release, at
            self._weights.clear()
        weight = _planned(event)
        if weight is not None and (not self._weights or self._weights[-1][1] != weight):
            self._weights.append((max(at - self._began, 0.0), weight))


def _planned(event: Event) -> float | None:
    """The canary's weight, where the event comes with a plan."""
    plan = event.body.get("plan")
    weight = plan.get("canary_weight") if isinstance(plan, dict) else None
    return float(weight) if isinstance(weight, int | float) else None
