"""What `switchback reproduce` did, and the small file that says so to a later `switchback report`.

.switchback/walk.json is no evidence: it may be deleted at any time, and only the cost of a run is told from it.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ci_tools.errors import SwitchbackError
from ci_tools.files import write_atomic

FILE = Path(".switchback/walk.json")
SCHEMA_VERSION = 1
_LONGEST = 1e12
"""Seconds that a stage may take; more stands for a damaged file."""
Outcome = Literal["ran", "checked", "restored", "cached"]


@dataclass(frozen=True)
class Step:
    """What happened to one stage. `checked`: it runs every time, because only running tells whether it changed."""

    stage: str
    outcome: Outcome
    reasons: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Lock:
    """Whether dvc.lock of HEAD is the one that the walk made, and where its release's training first differs."""

    state: Literal["verified", "differs", "absent"]
    rung: str = ""
    """As `switchback compare` names it; `none` where the trainings are equal, empty where the records cannot be had."""
    step: int | None = None
    layer: str = ""


@dataclass(frozen=True)
class Walk:
    """What happened to all stages, in order."""

    steps: tuple[Step, ...]
    seconds: float
    lock: Lock | None = None
    """None where nobody asked."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        outcomes = [step.outcome for step in self.steps]
        counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
        return f"pipeline: {counts or 'no stages'} in {self.seconds:.1f} s"


@dataclass(frozen=True)
class Remembered:
    """walk.json: the last walk, and how long each stage took when it last really ran."""

    walk: Walk
    ran_seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage, those of earlier walks included."""


def read(root: Path = Path()) -> Remembered | None:
    """What the last walk under `root` left; None where there was none, or its file is damaged or of another version."""
    try:
        raw = json.loads((root / FILE).read_text(encoding="utf-8"))
        if raw.pop("schema_version") != SCHEMA_VERSION:
            return None
        found = TypeAdapter(Remembered).validate_python(raw)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError, ValidationError):
        return None
    seconds = [found.walk.seconds, *(step.seconds for step in found.walk.steps), *found.ran_seconds.values()]
    return found if all(math.isfinite(one) and 0 <= one <= _LONGEST for one in seconds) else None


def remember(walk: Walk, root: Path = Path()) -> None:
    """Write the walk down; a stage that did not run this time keeps the seconds of its last real run.

    A disk that refuses it costs the report some numbers, and nothing else.
    """
    before = read(root)
    ran = {step.stage: step.seconds for step in walk.steps if step.outcome == "ran"}
    values = asdict(Remembered(walk, {**(before.ran_seconds if before else {}), **ran}))
    file = root / FILE
    with suppress(OSError, SwitchbackError):
        file.parent.mkdir(exist_ok=True)
        (file.parent / ".gitignore").write_text("*\n", encoding="utf-8")  # no repository needs to know of it
        write_atomic(file, json.dumps({"schema_version": SCHEMA_VERSION} | values, indent=1) + "\n")
