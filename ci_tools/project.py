"""The project itself, as its installation tells: where its repository is, and where a person reads on."""

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import ci_tools

PACKAGE = "switchback-ci"
CHECKOUT = Path(ci_tools.__file__).parents[1]
"""The folder that holds this package: the project's repository, unless a wheel was installed."""


def repository() -> str:
    """Address of the project's repository, without a slash at its end; empty where the metadata name none."""
    try:
        urls: list[str] = metadata(PACKAGE).get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Repository", "").rstrip("/")


def document(name: str) -> str:
    """How a document of this project is named to a person.

    Args:
        name: its path in the project's repository, with a heading behind `#` or not.

    Returns:
        The path where that repository is the working directory. An adopted repository may hold another file of that
        name, so everywhere else it is the address.
    """
    home = repository()
    return name if Path().samefile(CHECKOUT) or not home else f"{home}/blob/HEAD/{name}"
