import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ci_tools.report.track import priority
from tests.record.conftest import finished as finished


@pytest.fixture(autouse=True)
def tests_keep_their_priority(monkeypatch):
    """What lowers the priority of a process would lower that of all tests behind it."""
    monkeypatch.setattr(priority, "give_way", lambda: None)


@pytest.fixture
def training_process():
    """Start a process that writes a record; what it is asked for is on the disk when the answer comes."""

    @contextmanager
    def start(record):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.report.track.written", str(record)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def ask(*call):
            process.stdin.write(json.dumps(call) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        try:
            yield ask
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(timeout=30)

    return start
