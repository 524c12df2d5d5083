"""What the models answered: prediction logs, read on and on, and joined by request id.

A request's own answer gives its score; where it was mirrored, the champion's answer and the canary's make a pair.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

from ci_tools.release.home import Home
from ci_tools.release.traffic.lines import LineLog, Position

MOST = 100_000
"""Answers of each kind that wait for another at most; the oldest go first."""
Scores = tuple[float, ...] | None
"""One per row; None: the model gave no valid answer."""


class Answer(NamedTuple):
    """One line of a prediction log."""

    id: str
    bundle: str
    mirror: bool
    scores: Scores


class Pair(NamedTuple):
    """A request that both models answered."""

    id: str
    champion: Scores
    canary: Scores


class PredictionLog(LineLog[Answer]):
    """Of one model server."""

    def _value(self, raw: dict[str, Any]) -> Answer:
        scores = raw["scores"]
        return Answer(str(raw["id"]), str(raw["bundle"]), bool(raw["mirror"]),
                      None if scores is None else tuple(map(float, scores)))  # fmt: skip


class Predictions:
    """The prediction logs of one release's servers."""

    def __init__(
        self, home: Home, champion: str, canary: str, wait_seconds: float, positions: dict[str, Position]
    ) -> None:
        """Begin where another one was.

        Args:
            home: where the logs are.
            champion: digest of its bundle.
            canary: digest of the candidate's.
            wait_seconds: for which an answer waits for another.
            positions: of that other one.
        """
        self._home, self._champion, self._canary, self._wait = home, champion, canary, wait_seconds
        self._logs = {name: PredictionLog(home.predictions(name), position) for name, position in positions.items()}
        self._looks: deque[tuple[float, dict[str, Position]]] = deque()
        self._answers: OrderedDict[tuple[str, bool, bool], tuple[float, Scores]] = OrderedDict()
        """By id, whether it is the canary's, and whether of a copy: when it was read, and the scores."""

    def read(self, now: float, members: Iterable[str]) -> list[Pair]:
        """Take in what is new; returns the pairs that are complete now, some of which another run may have had."""
        for name in members:
            if name not in self._logs:
                self._logs[name] = PredictionLog(self._home.predictions(name))
        self._looks.append((now, {name: log.position for name, log in self._logs.items()}))
        while len(self._looks) > 1 and self._looks[1][0] <= now - self._wait:
            self._looks.popleft()
        pairs = [pair for log in self._logs.values() for answer in log.read() if (pair := self._join(answer, now))]
        while self._answers and (len(self._answers) > MOST or self._oldest() < now - self._wait):
            self._answers.popitem(last=False)
        return pairs

    def score(self, id_: str, canary: bool) -> float | None:
        """Mean score of a request's rows, of the model that it was routed to; None: not known."""
        found = self._answers.get((id_, canary, False))
        return sum(found[1]) / len(found[1]) if found and found[1] else None

    @property
    def positions(self) -> dict[str, Position]:
        """From where another one finds every answer that waits here."""
        return self._looks[0][1] if self._looks else {name: log.position for name, log in self._logs.items()}

    def _join(self, answer: Answer, now: float) -> Pair | None:
        canary = answer.bundle == self._canary
        if not canary and answer.bundle != self._champion:
            return None
        self._answers[answer.id, canary, answer.mirror] = (now, answer.scores)
        if canary is not answer.mirror:
            return None
        other = self._answers.get((answer.id, not canary, not canary))
        if other is None:
            return None
        champion, copy = (other[1], answer.scores) if canary else (answer.scores, other[1])
        return Pair(answer.id, champion, copy)

    def _oldest(self) -> float:
        return next(iter(self._answers.values()))[0]


def chosen(id_: str, rows: int) -> int:
    """Row that stands for a request: rows of one request are no independent draws, so one of them counts.

    Law: 0 <= chosen(id, rows) < rows for rows > 0; it depends on nothing else.
    """
    return crc32(id_.encode()) % rows


def is_flip(pair: Pair, thresholds: tuple[float, float] | None) -> bool:
    """Whether the two models decide a request differently; no answer is none of the champion's.

    Args:
        pair: of answers; the champion's is valid.
        thresholds: of champion and canary; None: they decide nothing.
    """
    if thresholds is None or not pair.champion:
        return False
    if pair.canary is None or len(pair.canary) != len(pair.champion):
        return True
    row = chosen(pair.id, len(pair.champion))
    return (pair.champion[row] >= thresholds[0]) != (pair.canary[row] >= thresholds[1])
