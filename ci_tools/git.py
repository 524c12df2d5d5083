"""git, as a command that prints."""

import os
import subprocess

from ci_tools.errors import ConfigError, DependencyUnavailable


def git(*arguments: str, **environment: str) -> str:
    """What git prints in the working directory, without the line break at its end.

    Raises:
        DependencyUnavailable: git is not installed.
        ConfigError: git refuses; its own words.
    """
    # Hooks are the user's: they have no business in a copy.
    command = ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files are bytes
            env=os.environ | environment,
        )
    except FileNotFoundError:
        raise DependencyUnavailable("git is not installed", fix="install git and put it on PATH") from None
    except subprocess.CalledProcessError as error:
        words = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise ConfigError(words, where=f"git {arguments[0]}") from None
    return done.stdout.rstrip("\n")


def asked(*arguments: str) -> str:
    """What git answers; empty where it refuses.

    Raises:
        DependencyUnavailable: git is not installed.
    """
    try:
        return git(*arguments)
    except ConfigError:
        return ""
