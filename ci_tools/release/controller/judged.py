"""judged.json: the judge's state, and how far the logs were counted into it. They are written together or not at all,
so that a controller that dies at any instant neither loses nor repeats a count.
"""

from typing import Annotated

from pydantic import Field, ValidationError

from ci_tools.config import Config
from ci_tools.files import write_atomic
from ci_tools.release.control import Phase
from ci_tools.release.home import Home
from ci_tools.release.judge import State
from ci_tools.release.traffic.access import Position


class Judged(Config):
    """The file, whole."""

    release: str
    """Id of the release that the state belongs to."""
    generation: Annotated[int, Field(ge=0)] = 0
    """Grows with every writing; pairs.db marks with it what is counted in the state."""
    state: State
    boot: str
    """Id of the machine's boot to which the following times belong."""
    origin: float
    """Boot time at which the release began."""
    phase: Phase
    since: float
    """Boot time at which the phase began."""
    saved: float
    """Boot time at which this was written."""
    access: Position | None = None
    """The first line of the access log that is not counted; None: the oldest there is."""
    predictions: dict[str, Position] = Field(default_factory=dict)
    """By member, the oldest line of its prediction log that may still wait for another."""


def save(home: Home, judged: Judged) -> None:
    """Replace the file.

    Raises:
        SwitchbackError: the disk refuses.
    """
    write_atomic(home.judged, judged.model_dump_json())


def load(home: Home, release: str, boot: str, now: float) -> Judged | None:
    """What is kept of a release; None where nothing usable is: then all is counted anew, as far as the logs reach.

    After a reboot the time without the machine does not count.
    """
    try:
        judged = Judged.model_validate_json(home.judged.read_bytes())
    except (OSError, ValidationError):
        return None
    if judged.release != release:
        return None
    if judged.boot == boot:
        return judged
    shift = now - judged.saved
    times = {name: getattr(judged, name) + shift for name in ("origin", "since", "saved")}
    return judged.model_copy(update={"boot": boot, **times})
