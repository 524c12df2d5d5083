"""Tracking beside `switchback run`: a process of its own, which the run neither waits for nor can be hurt by.

The run starts it where W&B is configured and tells it to end by closing its standard input, which also happens if the
run is killed. It then tells what is left and ends by itself, in a time that is limited wherever W&B is asked.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ci_tools.console import say

KEY = "WANDB_API_KEY"
LOG = Path("report/track.log")
GRACE = 4.0
"""Seconds that `switchback run` waits for the last data; without an answer from W&B they are lost."""
_NICE = 19
"""So that training gets the processor whenever it wants it."""
_SESSION = Path("/proc/self/autogroup")
"""How nice a whole session is, where Linux weighs sessions first and processes only within them."""


def configured(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether W&B was set up for this shell."""
    return bool(environ.get(KEY) or environ.get("WANDB_MODE")) and environ.get("WANDB_MODE") != "disabled"


@contextmanager
def tracking(grace: float = GRACE) -> Iterator[subprocess.Popen[bytes] | None]:
    """Tell W&B of the records that are written while the body runs, by the process that is yielded.

    None, and nothing done, where W&B is not configured. The key is taken out of this process's environment meanwhile:
    the code that trains has no use for it.

    Args:
        grace: seconds to wait for the process in the end; it goes on by itself where they do not suffice.
    """
    if not configured():
        yield None
        return
    process = _start()
    key = os.environ.pop(KEY, None)
    try:
        yield process
    finally:
        if key is not None:
            os.environ[KEY] = key
        if process is not None:
            _end(process, grace)


def _start() -> subprocess.Popen[bytes] | None:
    # Not a pipe of ours: whoever reads our output would wait until the tracker has ended, too.
    try:
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("wb") as log:
            command = [sys.executable, "-m", "ci_tools.report.track.beside"]
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ)
            )
    except OSError as error:
        say(f"warning: W&B is not told of this run ({error.strerror})")
        return None


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        say(f"W&B: not done after {grace:g} s; a process in the background goes on, see {LOG}")
    with suppress(OSError, UnicodeDecodeError):
        for line in LOG.read_text(encoding="utf-8").splitlines():
            say(f"W&B: {line}")


def main() -> None:
    """Attend to the records below runs/ until standard input ends."""
    ended = threading.Event()
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    _be_nice(_NICE)
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    from ci_tools.report.track.command import attend

    attend(Path(), ended, lambda line: print(line, flush=True))  # noqa: T201


def _wait_for_the_end(ended: threading.Event) -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):
            continue
    _be_nice(0)  # nobody trains any more, and somebody waits
    ended.set()


def _be_nice(value: int) -> None:
    for _ in range(3):
        try:
            _SESSION.write_text(str(value))
        except BlockingIOError:
            time.sleep(0.1)  # Linux takes no two changes within a tenth of a second
        except OSError:
            return
        else:
            return


if __name__ == "__main__":
    main()
