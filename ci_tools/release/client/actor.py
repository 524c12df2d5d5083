"""Who gives an order: the name that the ledger keeps."""

import getpass
import os
import subprocess

from ci_tools.errors import ConfigError
from ci_tools.harmless import one_line

LONGEST = 120
"""Characters of a name."""


def actor(given: str = "") -> str:
    """The name given, else GITHUB_ACTOR, else git's user.name, else the system's.

    Raises:
        ConfigError: there is none of them.
    """
    for name in (given, os.environ.get("GITHUB_ACTOR", ""), _git(), _system()):
        if name.strip():
            return one_line(name.strip(), LONGEST)
    raise ConfigError("nobody is known to give the order", rule="the ledger names who", fix="say --actor NAME")


def _git() -> str:
    try:
        done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _system() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
