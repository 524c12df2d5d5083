"""What a person sees while work goes on: a bar on a terminal, a line now and then elsewhere, nothing under `--json`.

Everything here but `print_json` goes to stderr; stdout belongs to results.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from ci_tools.harmless import in_json

QUIET = "SWITCHBACK_QUIET"
"""Environment variable that silences this process and the stages below it."""


class Progress(Protocol):
    """Work under way."""

    def update(self, step: int, text: str = "") -> None:
        """`step` of the total is done; `text` is shown beside it."""


def quiet() -> bool:
    """Whether a machine reads the output."""
    return bool(os.environ.get(QUIET))


def on_terminal() -> bool:
    """Whether a person watches; a CI log is not a terminal even where it pretends to be."""
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


def say(line: str) -> None:
    """One line about what happens now. A log that takes nothing, its disk being full, stops nobody's work."""
    if not quiet():
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - printing is its task


@contextmanager
def progress(total: int, description: str) -> Iterator[Progress]:
    """Show `total` steps of work; usable as often as every step."""
    if quiet():
        yield _Silent()
    elif on_terminal():
        with _bar(total, description) as bar:
            yield bar
    else:
        yield _Lines(total, description)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what this process and its children print to stderr, so that stdout stays one JSON object."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def machine_output(wanted: bool) -> Iterator[None]:
    """With `--json`, stages and progress leave stdout to the one object."""
    if not wanted:
        yield
        return
    before = os.environ.get(QUIET)
    os.environ[QUIET] = "1"
    try:
        with stdout_to_stderr():
            yield
    finally:
        if before is None:
            del os.environ[QUIET]
        else:
            os.environ[QUIET] = before


def print_json(values: dict[str, Any]) -> None:
    """The one object, on stdout."""
    print(in_json(json.dumps(values, indent=2, default=str)), flush=True)  # noqa: T201 - printing is its task


class _Silent:
    def update(self, step: int, text: str = "") -> None:
        """Say nothing."""


class _Lines:
    """At most one line per tenth of the work, or per 30 s where a tenth takes longer."""

    every_seconds = 30.0

    def __init__(self, total: int, description: str) -> None:
        self.total, self.description = total, description
        self._tenth, self._last = 0, time.monotonic()

    def update(self, step: int, text: str = "") -> None:
        tenth = 10 * step // max(self.total, 1)
        now = time.monotonic()
        if tenth <= self._tenth and now - self._last < self.every_seconds:
            return
        self._tenth, self._last = tenth, now
        say(f"{self.description} {step}/{self.total}" + (f"  {text}" if text else ""))


@contextmanager
def _bar(total: int, description: str) -> Iterator[Progress]:
    # Imported only where a person looks: it costs more than the whole plain path.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total, text="")

        class Bar:
            def update(self, step: int, text: str = "") -> None:
                bars.update(task, completed=step, text=text)

        yield Bar()
