"""What the children write must not fill the disk: long logs begin anew, those of members long gone are removed."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ci_tools.release.home import Home

KEPT_MEMBERS = 16
"""The newest members whose logs stay when they have gone: for a controller that is behind, and for people."""
LARGEST = 16 << 20
"""Bytes of a child's output beyond which it begins anew while the child runs."""
_OF_MEMBER = re.compile(r"(?:server|predictions)-m(\d+)\.(?:log|jsonl)(?:\.\d+)?")


def newest(home: Home) -> int:
    """Highest number that a member of this home had; 0 where there was none."""
    return max((number for number, _ in _of_members(home)), default=0)


def remove_old(home: Home, running: Collection[str]) -> None:
    """Remove the logs of members that neither run nor are among the newest."""
    last = newest(home)
    for number, path in _of_members(home):
        if number <= last - KEPT_MEMBERS and f"m{number}" not in running:
            with suppress(OSError):
                path.unlink()


def shorten(home: Home) -> None:
    """Begin the long ones anew; their writers append, and go on at the new start."""
    for path in home.access_log.parent.glob("*.log"):
        with suppress(OSError):
            if path.stat().st_size > LARGEST:
                os.truncate(path, 0)


def _of_members(home: Home) -> Iterator[tuple[int, Path]]:
    for path in home.access_log.parent.glob("*-m*"):
        if match := _OF_MEMBER.fullmatch(path.name):
            yield int(match[1]), path
