"""How a training command, which does not change, is told to re-execute one segment only.

`switchback replay` asks for it as it was, `switchback diagnose` with one change.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ci_tools.console import QUIET
from ci_tools.errors import RecordError

VARIABLE = "SWITCHBACK_REPLAY"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a segment does otherwise than its record did; the defaults change nothing."""

    without: tuple[int, ...] = ()
    """Steps that get another batch of the segment."""
    float64: bool = False
    """Compute in float64."""
    initialise: bool = False
    """Give every module PyTorch's default initial weights; for a segment from scratch."""
    clip_norm: float = 0.0
    """Largest total gradient norm, besides what the loop does; 0 leaves the gradients alone."""
    lr_factor: float = 1.0
    """Factor on every learning rate."""
    seed: int | None = None
    """Of data order and random draws."""


@dataclass(frozen=True)
class Segment:
    """Write to `record`, start from the checkpoint that stands there, if any, end after `steps` more steps.

    A segment with a `change`, even one that changes nothing, goes on through divergence and saves no checkpoint.
    """

    record: str
    steps: int
    change: Change | None = None

    def environment(self) -> dict[str, str]:
        """The variable to set for the command; law: current_segment() returns this segment there."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {VARIABLE: json.dumps(values)}

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a record's command for this segment, in this directory and by this interpreter.

        Raises:
            RecordError: there is no such program.
        """
        if Path(command[0]).name.startswith("python"):
            command = [sys.executable, *command[1:]]
        environment = {**os.environ, **self.environment(), QUIET: "1"}
        try:
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise RecordError(f"the record's command cannot be run ({error.strerror})", where=command[0]) from None


def current_segment() -> Segment | None:
    """The segment that this process was asked for, if any."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    values = json.loads(text)
    change = values.get("change")
    if change is not None:
        change = Change(**change | {"without": tuple(change["without"])})
    return Segment(values["record"], values["steps"], change)
