"""A control that plays a release while it is looked at, and services around it."""

from ci_tools.release.control import Phase, Result
from tests.release.api import scenes
from tests.release.api.scenes import Staged


class Played(Staged):
    """Goes on to the next scene at each look; the last one stays."""

    def __init__(self, *script):
        super().__init__(scenes.idle(), scenes.ramp())
        self.script, self.looks = list(script), 0

    def submit(self, bundle, actor, again=False):
        release = super().submit(bundle, actor, again)
        self.now = self.script.pop(0)
        return self.now.release or release

    def status(self):
        self.looks += 1
        found = super().status()
        if self.script and self.orders:
            self.now = self.script.pop(0)
        return found


def weight(share):
    """A ramping scene at a weight."""
    return scenes.ramping().model_copy(update={"release": scenes.release(Phase.RAMPING, weight=share)})


def inconclusive():
    """At the deadline."""
    reason = "Not yet proven: events.errors."
    return scenes.rolled_back().model_copy(
        update={"release": scenes.release(Phase.IDLE, Result.INCONCLUSIVE, reason, seconds=3600.0)}
    )
