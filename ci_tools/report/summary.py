"""GitHub's step summary and annotations, made by the job that ran the gates: nothing crosses a boundary here.

So the gates' own sentences may be told. They still hold names that a pull request chose, and are escaped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ci_tools.gates.files import Verdicts
from ci_tools.gates.show import comparison, name_of, worst_first
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.report import places
from ci_tools.report.answer import SIGNS
from ci_tools.report.markdown import code, prose
from ci_tools.report.results import name

LARGEST = 900_000
"""Bytes of a summary: GitHub drops one of more than 1 MiB as a whole."""
MOST = 10
"""Annotations of each level that GitHub keeps of one step."""

Level = Literal["error", "warning"]


class Annotation(NamedTuple):
    """A message at a line of the pull request's files."""

    level: Level
    title: str
    message: str
    place: places.Place | None

    def __str__(self) -> str:
        """The workflow command that makes it; one line whatever the message holds."""
        where = {"file": self.place.file, "line": str(self.place.line)} if self.place else {}
        properties = ",".join(f"{key}={_property(value)}" for key, value in (where | {"title": self.title}).items())
        return f"::{self.level} {properties}::{_data(self.message)}"


def render(comment: str, verdicts: Verdicts) -> str:
    """The comment, and below it what each gate that did not pass has to say."""
    text, left = f"{comment}\n### Diagnoses\n\n", 0
    bad = [one for one in worst_first(verdicts.verdicts) if one.outcome is not Outcome.PASSED]
    size = len(text.encode())
    for verdict in bad:
        line = _told(verdict)
        size += len(line.encode())
        if size > LARGEST:
            left += 1
            continue
        text += line
    if left:
        text += f"- … and {left} more in gates/verdicts.json.\n"
    return text if bad else f"{comment}\n"


def append(text: str, path: Path) -> None:
    """Add to the file that GITHUB_STEP_SUMMARY names.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def annotations(verdicts: Verdicts, root: Path = Path()) -> list[Annotation]:
    """One for each verdict that failed, could not be made or stops the merge; as many as GitHub shows, worst first."""
    bad = [one for one in worst_first(verdicts.verdicts) if one.outcome.rank >= Outcome.ERROR.rank or one.blocks]
    found = [_annotation(one, root) for one in bad]
    errors, warnings = ([one for one in found if one.level == level] for level in ("error", "warning"))
    return errors[:MOST] + warnings[:MOST]


def _annotation(verdict: Verdict, root: Path) -> Annotation:
    level: Level = "error" if verdict.blocks else "warning"
    numbers = comparison(verdict)
    lines = [
        verdict.diagnosis,
        *([numbers] if numbers else []),
        *([f"Fix: {verdict.remedy}"] if verdict.remedy else []),
    ]
    return Annotation(level, f"{name_of(verdict)} {verdict.outcome}", "\n".join(lines), places.of(verdict, root))


def _told(verdict: Verdict) -> str:
    subject = f" ({code(name(verdict.subject))})" if verdict.subject else ""
    fix = f" **Fix:** {prose(verdict.remedy)}" if verdict.remedy else ""
    title = f"{SIGNS[verdict.outcome]} **{code(name(verdict.gate))}**{subject}"
    return f"- {title} {prose(verdict.diagnosis)}{fix}\n"


def _data(text: str) -> str:
    """As GitHub's runner decodes a message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """As GitHub's runner decodes a property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def commands(found: Sequence[Annotation]) -> str:
    """All of them, a line each."""
    return "".join(f"{one}\n" for one in found)
