"""The controller as a child: started again, and told about without a flood."""

import sys
import time

from ci_tools.release.home import Home
from ci_tools.release.supervisor import Settings
from ci_tools.release.supervisor import controller as child
from ci_tools.release.supervisor.controller import Controller


def tended(tmp_path, monkeypatch, script, ends):
    """What is said until a controller has ended so often."""
    said = []
    monkeypatch.setattr(child, "say", said.append)
    home = Home(tmp_path)
    home.access_log.parent.mkdir(parents=True)
    command = (sys.executable, "-S", "-c", script, str(tmp_path / "runs"))
    controller = Controller(home, Settings(controller_command=command, backoff_seconds=0.001,
                                           longest_backoff_seconds=0.001))  # fmt: skip
    until = time.monotonic() + 60
    while controller._ends < ends:
        assert time.monotonic() < until
        controller.tend()
        time.sleep(0.002)
    controller.kill()
    return said


def test_refusal_that_repeats_itself_is_told_once(tmp_path, monkeypatch):
    (line,) = tended(tmp_path, monkeypatch, "import sys; sys.exit('error: ledger.db: event 2 does not fit')", 4)
    assert "event 2 does not fit" in line


def test_another_reason_is_news(tmp_path, monkeypatch):
    script = "import sys; f = open(sys.argv[1], 'a+'); f.write('x'); sys.exit(f'end {f.tell() // 2}')"
    said = tended(tmp_path, monkeypatch, script, 4)
    assert [line[line.index("end ") :][:5] for line in said] == ["end 0", "end 1", "end 2"]
