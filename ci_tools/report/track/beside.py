"""Tracking beside `switchback run`: a process of its own, which the run neither waits for nor can be hurt by.

The run starts it where W&B is configured and tells it to end by closing its standard input, which also happens if the
run is killed. It then tells what is left and ends by itself, in a time that is limited wherever W&B is asked.

The key reaches it as the first line of its standard input, so that it stands in the environment neither of the process
nor of W&B's own that it starts, and it imports nothing from the repository. Code of the same user can get at the key
all the same, see docs/track.md.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ci_tools.console import say

KEY = "WANDB_API_KEY"
LOG = Path("report/track.log")
GRACE = 4.0
"""Seconds that `switchback run` waits for the last data; without an answer from W&B they are lost."""


def configured(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether W&B was set up for this shell."""
    return bool(environ.get(KEY) or environ.get("WANDB_MODE")) and environ.get("WANDB_MODE") != "disabled"


@contextmanager
def tracking(grace: float = GRACE) -> Iterator[subprocess.Popen[bytes] | None]:
    """Tell W&B of the records that are written while the body runs, by the process that is yielded.

    None, and nothing done, where W&B is not configured. The key is taken out of this process's environment meanwhile:
    processes that are started in the body do not inherit it.

    Args:
        grace: seconds to wait for the process in the end; it goes on by itself where they do not suffice.
    """
    if not configured():
        yield None
        return
    key = os.environ.pop(KEY, None)
    process = None
    try:
        process = _start(key or "")
        yield process
    finally:
        if key is not None:
            os.environ[KEY] = key
        if process is not None:
            _end(process, grace)


def _start(key: str) -> subprocess.Popen[bytes] | None:
    # Not a pipe of ours: whoever reads our output would wait until the tracker has ended, too.
    try:
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("wb") as log:
            # -P: a netrc.py of the repository would otherwise be imported in place of Python's.
            command = [sys.executable, "-P", "-m", "ci_tools.report.track.beside"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    except OSError as error:
        say(f"warning: W&B is not told of this run ({error.strerror})")
        return None
    if process.stdin is not None:
        with suppress(OSError):  # it ended already, and its log says why
            process.stdin.write(os.fsencode(key) + b"\n")
            process.stdin.flush()
    return process


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
    """Attend to the records below runs/ until standard input, which begins with the key, ends."""
    ended, key = threading.Event(), os.fsdecode(sys.stdin.buffer.readline()).strip()
    sys.path[:] = trusted(sys.path, Path.cwd())
    from ci_tools.report.track import priority

    priority.give_way()
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    from ci_tools.report.track.command import attend

    attend(Path(), ended, lambda line: print(line, flush=True), key=key)  # noqa: T201 - its log


def trusted(places: Sequence[str], repository: Path) -> list[str]:
    """Those of the places that modules come from which are not the repository's; an environment inside it counts.

    An editable installation lists the repository, and anything that W&B's client tries to import may lie there.
    """
    inside, installed = repository.resolve(), Path(sys.prefix).resolve()
    found = [(place, Path(place).resolve()) for place in places]
    return [place for place, path in found if path.is_relative_to(installed) or not path.is_relative_to(inside)]


def _wait_for_the_end(ended: threading.Event) -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):
            continue
    from ci_tools.report.track import priority

    ended.set()
    priority.weigh(0)  # nobody trains any more, and somebody waits


if __name__ == "__main__":
    main()
