"""Where to publish, and as whom."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ci_tools.errors import ConfigError
from ci_tools.report.github.event import REPOSITORY

PUBLIC = "https://api.github.com"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A repository on a GitHub server, the token that speaks to it, and the pull request, where one is meant.

    Raises:
        ConfigError: a value that cannot be right. The token is never shown.
    """

    repository: str
    """owner/name"""
    token: str = field(repr=False)
    api_url: str = PUBLIC
    pull_request: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(REPOSITORY, self.repository):
            raise ConfigError(f"{self.repository!r} names no repository", where="GITHUB_REPOSITORY", fix="owner/name")
        if not re.fullmatch(r"[!-~]+", self.token):
            raise ConfigError("holds blanks or control characters", where="GITHUB_TOKEN", fix="pass the token as it is")
        url = urlsplit(self.api_url)
        if not url.hostname or (url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK)):
            rule = "the token must not travel in the clear"
            raise ConfigError(f"{self.api_url!r} is not an https address", where="GITHUB_API_URL", rule=rule)
        if self.pull_request is not None and self.pull_request < 1:
            raise ConfigError(f"{self.pull_request} is not the number of a pull request", fix="numbers start at 1")

    @classmethod
    def from_environment(cls, pull_request: int | None = None, environment: Mapping[str, str] = os.environ) -> "Target":
        """The repository, server and token as GitHub Actions sets them.

        Raises:
            ConfigError: a variable is missing or wrong.
        """
        fixes = {
            "GITHUB_REPOSITORY": "run this in GitHub Actions, or set it to owner/name",
            "GITHUB_TOKEN": "give the step `env: GITHUB_TOKEN: ${{ github.token }}`",
        }
        for name, fix in fixes.items():
            if not environment.get(name):
                raise ConfigError(f"{name} is not set", fix=fix)
        return cls(
            repository=environment["GITHUB_REPOSITORY"],
            token=environment["GITHUB_TOKEN"],
            api_url=(environment.get("GITHUB_API_URL") or PUBLIC).rstrip("/"),
            pull_request=pull_request,
        )

    @property
    def number(self) -> int:
        """The pull request's number.

        Raises:
            ConfigError: none is known.
        """
        if self.pull_request is None:
            raise ConfigError(
                "no pull request is known", rule="the event names none, or several", fix="name the pull request"
            )
        return self.pull_request
