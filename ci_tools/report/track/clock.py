"""When each step of a run was, from a record that holds durations."""

import math
from array import array
from datetime import UTC, datetime

from ci_tools.errors import RecordError
from ci_tools.record.schema import RunMeta


class Clock:
    """Wall times of the rows of a trace, in seconds since 1970, given row by row.

    A record says when its processes began and how long each step took, not when a step ended. The time of a row is the
    beginning of its process plus the duration of that process's rows so far.

    Law: a time is never earlier than that of the row before, and, to the second, never later than the step really was.
    It is early by what its process did outside of steps, such as building the model.

    Raises:
        RecordError: `started`, or `at` of a resume, is no time.
    """

    def __init__(self, meta: RunMeta) -> None:
        self.start = self.now = seconds(meta.started)
        self._begun = 0
        self._attempts: dict[int, tuple[int, array[float]]] = {}
        self.update(meta)

    def update(self, meta: RunMeta) -> None:
        """Take note of resumes and recoveries that run.json tells of by now."""
        self._returns = [recovery.from_step for recovery in meta.recoveries]
        # Of a resume from an earlier step than the one before it, the trace holds no row in between.
        self._begins: list[tuple[int, int, float]] = []
        for number, resume in enumerate(meta.resumes[self._begun :], self._begun + 1):
            while self._begins and self._begins[-1][1] >= resume.from_step:
                self._begins.pop()
            self._begins.append((number, resume.from_step, seconds(resume.at)))

    def tick(self, step: int, attempt: int, step_ms: float) -> float:
        """The time of the next row of the trace."""
        if self._begins and self._is_of_next_process(step, attempt):
            self._begun, _, at = self._begins.pop(0)
            self.now = max(self.now, at)
        if math.isfinite(step_ms) and step_ms > 0:
            self.now += step_ms / 1e3
        self._attempts.setdefault(attempt, (step, array("d")))[1].append(self.now)
        return self.now

    def at(self, step: int, attempt: int) -> float | None:
        """The time of a row that ticked; None if there was none of this step and attempt."""
        first, times = self._attempts.get(attempt, (0, array("d")))
        return times[step - first] if 0 <= step - first < len(times) else None

    def _is_of_next_process(self, step: int, attempt: int) -> bool:
        """Whether the next resume lies before this row; where several rows may be meant, the last one is.

        A run that went back to a checkpoint passes the same steps again, and may have been resumed in either pass.
        """
        _, from_step, _ = self._begins[0]
        return step >= from_step and not any(back < from_step for back in self._returns[attempt:])


def seconds(text: str) -> float:
    """Seconds since 1970 of a time in run.json; UTC where it names no zone.

    Raises:
        RecordError: it is no time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RecordError(f"run.json: {text!r} is no time", rule="times are UTC, ISO 8601", fix="train again") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
