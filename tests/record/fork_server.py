"""Trains toys in forked children, so that a killed run costs a fraction of a second and not an import of torch.

Reads one JSON job per line, {"record", "options", "kill": {…}}, and answers with the child's exit code.
Kill kinds: seconds (from outside, after a delay); fsync, rename, write (inside, at the n-th such call, halfway through
a write); step (inside, when that step begins).
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import torch._inductor  # noqa: F401 - what the first optimizer imports; here it is imported once for all children

from ci_tools.record import log
from tests.record import toy


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kind, n):
    """Make the n-th call of `kind` in this process its last."""
    count = iter(range(1, 10**9))
    if kind == "fsync":
        real = os.fsync
        os.fsync = lambda fd: die() if next(count) == n else real(fd)
    elif kind == "rename":
        real_rename = Path.rename
        Path.rename = lambda self, target: die() if next(count) == n else real_rename(self, target)
    elif kind == "write":
        real_write = log.ArrowLog._write

        def torn(self, buffer):
            if next(count) == n:
                self._file.write(memoryview(buffer)[: len(memoryview(buffer)) // 2])
                die()
            real_write(self, buffer)

        log.ArrowLog._write = torn


def child(job):
    kill = job.get("kill") or {}
    options = dict(job["options"])
    for kind in ("fsync", "rename", "write"):
        if kind in kill:
            arm(kind, kill[kind])
    if "seconds" in kill:
        threading.Timer(kill["seconds"], die).start()
    if "step" in kill:
        options["on_step"] = lambda step, run: die() if step == kill["step"] else None
    toy.train(job["record"], **options)


def main():
    os.environ["SWITCHBACK_QUIET"] = "1"
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(json.loads(line))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
