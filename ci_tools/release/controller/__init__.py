"""What decides about a release: ledger and logs in, plan and lease out.

    controller = Controller(home)     # reads the ledger, goes on where the last one was
    controller.submit(digest, actor)
    controller.tick()                 # ten times a second: look, judge, write down, act

Whatever instant it dies at, the next one goes on from what is on the disk.
"""

from ci_tools.release.controller.controller import Controller, Surroundings
from ci_tools.release.controller.settings import Settings

__all__ = ["Controller", "Settings", "Surroundings"]
