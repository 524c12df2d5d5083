"""A game day's drills: planted faults that no guard named, for an issue."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ci_tools.report.github import Opened, Target, open_issue
from ci_tools.report.markdown import code, link, prose

TOPIC = "game-day"
TITLE = "Game day: a guard stayed silent"


def alert(files: Sequence[Path], target: Target, run_url: str = "") -> Opened:
    """Have one open issue that says what the drills found.

    Args:
        files: what `switchback gate --self-test --json` and `switchback rehearse --json` wrote.
        target: of the repository.
        run_url: of the workflow's run; empty for none.

    Raises:
        SwitchbackError: the token may not.
        DependencyUnavailable: GitHub is out of reach.
    """
    return open_issue(target, TOPIC, TITLE, text(files, run_url), again=True)


def text(files: Sequence[Path], run_url: str = "") -> str:
    """The issue, as Markdown."""
    wrong = [line for file in files for line in _wrong(file)]
    lines = wrong or ["- The drills ended with an error and found nothing wrong: see the log."]
    head = "Faults were planted on purpose. A guard that does not name them would miss real ones, too."
    foot = [link("The workflow's run", run_url)] if run_url else []
    return "\n\n".join([head, "\n".join(lines), *foot]) + "\n"


def _wrong(file: Path) -> Iterator[str]:
    """A line for each thing that is not as it should be."""
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        yield from (f"- {line}" for line in _of(found))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        yield f"- {code(file.name)} holds no finding: its drill did not come to an end"


def _of(found: dict[str, Any]) -> Iterator[str]:
    if "error" in found:
        yield f"A drill could not be held: {prose(str(found['error']['message']))}"
    for one in found.get("findings", ()):
        if not one["right"]:
            planted = f"{code(one['planted'])} ({code(one['plant'])})" if one["planted"] else "Nothing"
            yield f"{planted} was planted, and the gates named {code(one['named']) or 'nothing'}."
    for name, expected in (("fresh", "promoted"), ("spoiled", "rolled back")):
        if name in found and not found[name]["ok"]:
            ended = found[name]["result"] or "undecided"
            yield f"The {name} model was to be {expected} and ended {ended}: {prose(str(found[name]['sentence']))}"
    if found.get("lost"):
        yield f"The rehearsal lost {int(found['lost'])} requests."
