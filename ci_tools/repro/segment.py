"""How `switchback replay` tells a training command, which does not change, to re-execute one segment only."""

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "SWITCHBACK_REPLAY"


@dataclass(frozen=True)
class Segment:
    """Write to `record`, start from the checkpoint that stands there, if any, end after `steps` more steps."""

    record: str
    steps: int

    def environment(self) -> dict[str, str]:
        """The variable to set for the command; law: current_segment() returns this segment there."""
        return {VARIABLE: json.dumps(asdict(self))}


def current_segment() -> Segment | None:
    """The segment that this process was asked for, if any."""
    text = os.environ.get(VARIABLE)
    return Segment(**json.loads(text)) if text else None
