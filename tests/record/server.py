"""Starts the small programs that fork training runs, so that torch is imported once and not for every run."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def program(module):
    """`python -m module` on one thread; yields a function from a job to its answer, each a line of JSON."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def ask(**job):
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        yield ask
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=30)
