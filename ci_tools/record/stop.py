"""SIGTERM and SIGINT end a run at the next step boundary, with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Remembers that a stop was asked for; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    @property
    def terminated(self) -> bool:
        """Whether the stop was a SIGTERM, which asks for a later retry."""
        return self.received == signal.SIGTERM

    def install(self) -> None:
        """Take over the signals; outside the main thread Python allows no handlers, and none is set."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
