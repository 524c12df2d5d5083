"""Can it be merged? The answer in one line, as the comment, the status beside the commit and the page all give it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ci_tools.gates import causes
from ci_tools.gates.verdict import Outcome
from ci_tools.report.numerals import plural

SIGNS = {Outcome.PASSED: "✅", Outcome.INCONCLUSIVE: "❔", Outcome.ERROR: "⛔", Outcome.FAILED: "❌"}
RESERVED = "⚠️"
"""Sign of a merge that nothing blocks and that somebody should think about all the same."""
_STOPS = {1: Outcome.FAILED, 2: Outcome.ERROR, 3: Outcome.INCONCLUSIVE}
"""What stops a merge, by exit code of the gates."""


class Judged(causes.Judged, Protocol):
    """What counts of a verdict."""

    @property
    def statistic(self) -> float | None:
        """None where nothing was measured."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What `str` makes a line of: sign, title and reason."""

    outcome: Outcome
    """Passed where nothing stops the merge, else what does."""
    title: str
    """`You can merge` or not; the same few words whatever the reason."""
    reason: str
    """Why not, or what to keep in mind; empty where there is nothing."""
    sure: bool
    """Whether nothing that should have been tested was left out, and nothing failed."""

    @property
    def sign(self) -> str:
        """One picture for all of it."""
        return SIGNS[self.outcome] if self.sure or self.outcome is not Outcome.PASSED else RESERVED

    @property
    def words(self) -> str:
        """Without the picture, for a terminal."""
        return self.title + (f": {self.reason}" if self.reason else "")

    def __str__(self) -> str:
        return f"{self.sign} {self.words}"


def of(verdicts: Sequence[Judged], exit_code: int, *, base: str, selected: bool, statuses: Sequence[str]) -> Answer:
    """The answer to one run.

    Args:
        verdicts: all of them, with what stands for tests that have not ended.
        exit_code: as that of the gates.
        base: revision that was asked to be compared with; empty: none.
        selected: whether only some of the acceptance tests were asked for.
        statuses: of the run records; one that cannot be read counts as not finished.
    """
    if stops := _STOPS.get(exit_code):
        title = "Do not merge yet" if stops is Outcome.INCONCLUSIVE else "Do not merge"
        return Answer(outcome=stops, title=title, reason=_against(verdicts, stops), sure=False)
    tolerated, untested = _tolerated(verdicts), _untested(verdicts, base, selected, statuses)
    told = tolerated + untested + ([] if base else ["nothing was compared with main"])
    if not tolerated and (told or any(one.outcome is Outcome.INCONCLUSIVE for one in verdicts)):
        told.insert(0, "nothing blocks it")
    sure = not (tolerated or untested)
    return Answer(outcome=Outcome.PASSED, title="You can merge", reason=_joined(told), sure=sure)


def _against(verdicts: Sequence[Judged], stops: Outcome) -> str:
    if stops is Outcome.ERROR:
        return "the run could not be judged"
    if stops is Outcome.INCONCLUSIVE:
        return "the evidence does not decide"
    blocking = sum(one.blocks for one in verdicts)
    return f"{plural(blocking, 'verdict')} {'stops' if blocking == 1 else 'stop'} it"


def _tolerated(verdicts: Sequence[Judged]) -> list[str]:
    """What the policy lets pass although it is bad."""
    words = {Outcome.FAILED: "failed", Outcome.ERROR: "could not be judged"}
    found = [said for kind, said in words.items() if any(one.outcome is kind for one in verdicts)]
    return [f"what {' or '.join(found)} does not block"] if found else []


def _untested(verdicts: Sequence[Judged], base: str, selected: bool, statuses: Sequence[str]) -> list[str]:
    """What a pass does not cover although it should."""
    found = ["only some of the tests were asked for"] if selected else []
    finished = sum(status == "finished" for status in statuses)
    if finished < len(statuses):
        found.append("not every training finished" if finished else "no training finished")
    compared = any(one.gate == "quality_against_main" and one.statistic is not None for one in verdicts)
    return found if compared or not base else [*found, "no metric was compared with the base revision"]


def _joined(parts: Sequence[str]) -> str:
    """`a`, `a, and b`, `a, b, and c`."""
    return ", and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""
