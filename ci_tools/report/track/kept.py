"""report/wandb.json: what W&B has been told, so that nobody tells it twice and the comment can link to it.

    {"run": URL, "report": URL, "runs": {NAME: {"id", "url", "project", "folder", "state"}}}

`run` is that of the verdicts where there is one, else of the first record; a URL that is not known is empty.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ci_tools.files import write_atomic

FILE = Path("report/wandb.json")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run."""

    id: str
    url: str = ""
    project: str = ""
    """`entity/project`, where W&B answered."""
    folder: str = ""
    """Where the data waits for `wandb sync`, from the root; empty where W&B has all of it."""
    state: str = ""
    """Digest of what was told, and to whom; empty where something is missing."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The file's content."""

    run: str = ""
    report: str = ""
    runs: dict[str, Entry]


def read(root: Path = Path()) -> Kept:
    """What is there; nothing where the file is missing or not readable, because it can be made again."""
    try:
        raw: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))
        runs = {name: Entry(**values) for name, values in raw["runs"].items()}
        return Kept(run=raw["run"], report=raw["report"], runs=runs)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return Kept(runs={})


def known(name: str, state: str, root: Path = Path()) -> Entry | None:
    """The entry of a run that was told just this; None where it was not, or where its folder is gone."""
    entry = read(root).runs.get(name)
    if entry is None or entry.state != state or (entry.folder and not (root / entry.folder).exists()):
        return None
    return entry


def note(name: str, entry: Entry, root: Path = Path(), *, first: bool = False) -> None:
    """Add or replace one entry.

    Args:
        name: of the run, for people.
        entry: what became of it.
        root: of the repository.
        first: whether the comment should link to this run rather than to another.

    Raises:
        SwitchbackError: the disk refused the write.
    """
    now = read(root)
    link = (entry.url or now.run) if first else (now.run or entry.url)
    _write(replace(now, run=link, runs=now.runs | {name: entry}), root)


def note_report(url: str, root: Path = Path()) -> None:
    """Set the report's address.

    Raises:
        SwitchbackError: the disk refused the write.
    """
    _write(replace(read(root), report=url), root)


def _write(content: Kept, root: Path) -> None:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(content), indent=1) + "\n")
