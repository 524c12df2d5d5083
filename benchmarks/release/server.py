"""The model server with the command line of `ci_tools.release.server`, and faults where the drill wants them.

    python -m benchmarks.release.server --faults FILE --bundle DIR --member NAME --port N …

FILE says which bundle has which fault of tests/release/faulty_server.py: {"<digest>": "crash:50"}; `fails:N` is one
more: every run behind the N-th fails. After SIGUSR1 every run of a sound server does: a total outage.
"""

import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

from ci_tools.release.server import __main__ as command
from ci_tools.release.server.model import Model
from ci_tools.release.server.refusal import failed
from tests.release import faulty_server

_sound_run = Model.run
_left = math.inf
"""Runs that go well."""


def main(arguments: list[str]) -> int:
    """Plant what is due, then be the server."""
    at = arguments.index("--faults")
    faults = json.loads(Path(arguments[at + 1]).read_text(encoding="utf-8"))
    rest = arguments[:at] + arguments[at + 2 :]
    digest = Path(rest[rest.index("--bundle") + 1]).name
    fault = faults.get(digest, "")
    if fault and not fault.startswith("fails:"):
        return int(faulty_server.main(["--fault", fault, *rest]))
    _fall(float(fault.removeprefix("fails:") or math.inf))
    signal.signal(signal.SIGUSR1, lambda *_: _fall(0))
    Model.run = _run
    return command.main(rest)


def _fall(runs: float) -> None:
    global _left
    _left = runs


def _run(self: Model, inputs: Any) -> Any:
    _fall(_left - 1)
    if _left < 0:
        raise failed("the model failed: total outage, planted")
    return _sound_run(self, inputs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
