"""Time: boot time for all durations, the calendar for people only."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ci_tools.release.plan import boot_time


class Clock(Protocol):
    """What the controller knows of time."""

    @property
    def boot(self) -> str:
        """Id of the machine's present boot: boot times of another cannot be compared."""

    def now(self) -> float:
        """Boot time, in seconds."""

    def wall(self) -> datetime:
        """The calendar, UTC; may jump."""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class MachineClock:
    """The machine's."""

    boot: str = field(default_factory=_boot_id)

    def now(self) -> float:
        """Boot time, in seconds."""
        return boot_time()

    def wall(self) -> datetime:
        """The calendar, UTC."""
        return datetime.now(UTC)
