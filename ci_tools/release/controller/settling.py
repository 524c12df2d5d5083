"""In which order requests are counted, and when: slow answers must not make an arm look as if it had no traffic.

Requests are logged when they end. An arm that hangs has none in the log until they time out; its counts would then
contradict the weights, and the judge would doubt all of them. So where one of the two compared arms falls behind, the
requests of all arms wait until everything that was routed at their time has been answered.

Canary and baseline have equal weights in every plan; so each of their requests is a fair coin, and falling behind is
what a cumulative-sum test (Page, Biometrika 1954) of that coin finds. Waiting costs time, never evidence.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ci_tools.release.plan import Role
from ci_tools.release.traffic.access import Entry, Position

_ALTERNATIVES = (0.1, 0.4)
"""Shares of the arm that falls behind, against one half."""
_ALARM = 4.5
"""Log likelihood ratio from which on an arm has fallen behind: some 8 requests where none of its own comes."""
_CALM = _ALARM / 2
"""Below which it has caught up."""
_BALANCED = 3.0
"""Standard deviations by which waiting requests may differ between the arms when waiting ends."""


class Batch(NamedTuple):
    """What one look at the log gave."""

    at: float
    """When, boot time."""
    position: Position
    """Before it."""
    entries: Sequence[Entry]


class Settling:
    """Requests between log and judge."""

    def __init__(self, answer_seconds: float, join_seconds: float) -> None:
        """Begin.

        Args:
            answer_seconds: after which every request has been answered.
            join_seconds: for which all requests wait anyhow.
        """
        self._answer, self._join = answer_seconds, join_seconds
        self._fresh: deque[Batch] = deque()
        self._held: list[Entry] = []
        self._lag = 0.0
        """Boot time minus the log's calendar, as of the last batch."""
        self._behind = {(arm, share): 0.0 for arm in (Role.CANARY, Role.BASELINE) for share in _ALTERNATIVES}
        self.waiting = False
        """Whether an arm has fallen behind. Requests are then counted in order of arrival, not of the log."""

    def add(self, batch: Batch) -> None:
        """New requests of the log."""
        if batch.entries:
            self._fresh.append(batch)

    def take(self, now: float) -> list[Entry]:
        """Requests that can be counted, each once."""
        while self._fresh and self._fresh[0].at <= now - self._join:
            batch = self._fresh.popleft()
            self._held.extend(batch.entries)
            self._lag = batch.at - max(entry.t + entry.ms / 1000 for entry in batch.entries)
            for entry in batch.entries:
                self._follow(entry)
        worst = max(self._behind.values())
        self.waiting = worst >= _ALARM or (self.waiting and (worst > _CALM or not self._is_balanced()))
        # Every request that came so early has been answered, by the calendar that the log goes by.
        complete = now - self._lag - self._answer if self.waiting else math.inf
        taken = [entry for entry in self._held if entry.t <= complete]
        self._held = [entry for entry in self._held if entry.t > complete]
        return taken

    def position(self, read: Position) -> Position | None:
        """Of the first request that was not taken, `read` being how far the log was read; None: no position of the
        log parts those that were taken from the others.
        """
        if self._held:
            return None
        return self._fresh[0].position if self._fresh else read

    def _follow(self, entry: Entry) -> None:
        if entry.arm not in (Role.CANARY, Role.BASELINE):
            return
        for (arm, share), total in self._behind.items():
            gain = math.log(2 * share) if entry.arm is arm else math.log(2 * (1 - share))
            self._behind[arm, share] = min(max(total + gain, 0.0), _ALARM)

    def _is_balanced(self) -> bool:
        arms = [entry.arm for entry in self._held]
        canary, baseline = arms.count(Role.CANARY), arms.count(Role.BASELINE)
        return abs(canary - baseline) <= _BALANCED * math.sqrt(canary + baseline)
