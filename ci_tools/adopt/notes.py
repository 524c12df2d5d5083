"""What a person should know of what `switchback init` did, each with what to do about it."""

from collections.abc import Collection, Iterator

from ci_tools.adopt.origin import EXAMPLE, Origin
from ci_tools.adopt.repository import REQUIREMENTS
from ci_tools.project import PACKAGE


def notes(origin: Origin, kept: Collection[str]) -> list[str]:
    """In the order in which they matter.

    Args:
        origin: what CI installs this package from.
        kept: paths of files that stay as they are.
    """
    return [*_of_package(origin)] if REQUIREMENTS not in kept else []


def _of_package(origin: Origin) -> Iterator[str]:
    if origin.unreachable:
        yield (
            f"{REQUIREMENTS} names {PACKAGE}{origin.requirement}, which has to exist: this one was installed from "
            f"{origin.unreachable}, and CI cannot. Fix: name there what CI can install, or remove the file and run "
            f"`switchback init --install {EXAMPLE}`"
        )
