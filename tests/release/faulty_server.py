"""The model server with a fault in it: same command line, and `--fault KIND[:ARG]`.

    python -m tests.release.faulty_server --fault crash:50 --bundle DIR --member m1 --port N …

| kind | what happens |
|---|---|
| load-crash | dies of SIGABRT before it listens |
| load-hang | never listens |
| crash:N | dies of SIGKILL in the N-th run of the model (1 is the first) |
| hang:N | the N-th run never ends; health checks are answered |
| freeze:N | stops as a whole in the N-th run (SIGSTOP); nothing is answered, the port stays open |
| slow:MS | every run takes MS milliseconds longer |
| errors:SHARE | that share of the runs fails: 500 |
| leak:MB | every run keeps MB megabytes |

What a model itself can do wrong (NaN, scores outside of [0, 1], flipped decisions, slow, large) is a bundle with such a
graph: `tests/release/graphs.py`. Requests that wait together are one run.
"""

import os
import random
import signal
import sys
import time

from ci_tools.release.server import __main__ as command
from ci_tools.release.server.model import Model
from ci_tools.release.server.refusal import failed

KINDS = ("load-crash", "load-hang", "crash", "hang", "freeze", "slow", "errors", "leak")
_sound_run = Model.run


def main(arguments):
    """Plant the fault, then be the server."""
    at = arguments.index("--fault")
    kind, _, amount = arguments[at + 1].partition(":")
    if kind not in KINDS:
        raise SystemExit(f"--fault: one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "load-crash":
        os.abort()
    while kind == "load-hang":
        time.sleep(3600)
    plant(kind, float(amount or 1))
    return command.main(arguments[:at] + arguments[at + 2 :])


def plant(kind, amount):
    """Replace `Model.run`; the run on zeros, while the model is loaded, stays sound."""
    drawn, kept, runs = random.Random(0), [], -1

    def run(self, inputs):
        nonlocal runs
        runs += 1
        if runs > 0:
            if kind == "crash" and runs == amount:
                os.kill(os.getpid(), signal.SIGKILL)
            elif kind == "freeze" and runs == amount:
                os.kill(os.getpid(), signal.SIGSTOP)
            elif kind == "slow":
                time.sleep(amount / 1e3)
            elif kind == "leak":
                kept.append(os.urandom(1) * int(amount * 1e6))
            elif kind == "errors" and drawn.random() < amount:
                raise failed("the model failed: planted")
            while kind == "hang" and runs >= amount:
                time.sleep(3600)
        return _sound_run(self, inputs)

    Model.run = run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
