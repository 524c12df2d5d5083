"""The controller on a machine whose calendar jumps: by a day, back and forth, with every look at it."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import cycle

from ci_tools.release.controller import __main__ as command
from ci_tools.release.controller.clock import MachineClock

_JUMPS = cycle((timedelta(days=1), timedelta(0), timedelta(days=-1), timedelta(0)))


def _wall(_: MachineClock) -> datetime:
    return datetime.now(UTC) + next(_JUMPS)


if __name__ == "__main__":
    MachineClock.wall = _wall
    sys.exit(command.main())
