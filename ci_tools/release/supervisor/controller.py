"""The controller as a child. Its death changes nothing but that its lease runs out."""

import signal

from ci_tools.console import say
from ci_tools.errors import SwitchbackError
from ci_tools.release.home import Home
from ci_tools.release.plan import boot_time
from ci_tools.release.supervisor.child import Child
from ci_tools.release.supervisor.settings import Settings


class Controller:
    """Started again whenever it ends, if the settings name a command."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._settings = settings
        self._log = home.access_log.with_name("controller.log")
        self._child: Child | None = None
        self._due = self._started = 0.0
        self._ends = 0
        self._said = ""
        """Why it ended, as it was told last."""

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._child.pid if self._child else 0

    def tend(self) -> None:
        """Start it if that is due; notice its end."""
        now = boot_time()
        if self._child is None:
            if self._settings.controller_command and now >= self._due:
                self._start()
            return
        if now - self._started > self._settings.failure_seconds:
            self._ends, self._said = 0, ""
        if why := self.reap():
            self._again(why)

    def reap(self) -> str:
        """Why it ended; empty while it runs or where it does not."""
        why = self._child.ended() if self._child else ""
        if why:
            self._child = None
        return why

    def ask_to_end(self) -> None:
        """It may finish what it writes."""
        if self._child is not None:
            self._child.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _start(self) -> None:
        self._started = boot_time()
        try:
            self._child = Child(self._settings.controller_command, self._log)
        except (SwitchbackError, OSError) as error:
            self._again(f"cannot be started: {error}")

    def _again(self, why: str) -> None:
        self._ends += 1
        wait = self._settings.backoff_seconds * 2.0 ** (self._ends - 1)
        self._due = boot_time() + min(wait, self._settings.longest_backoff_seconds)
        if why != self._said:  # one that is refused again and again, for the same reason, is told once
            say(f"controller ended ({why}); it is started again, and traffic returns to stable when its lease ends")
        self._said = why
