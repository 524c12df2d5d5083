"""What a gate says: a reading, judged against a limit, becomes a verdict.

Law: every statistic measures badness, so that larger is worse and one comparison serves all gates.
"""

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ci_tools.errors import SwitchbackError
from ci_tools.gates.reasons import Reason


class Outcome(StrEnum):
    """From best to worst. Only `passed` is a pass: no evidence is never one."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    """Not enough evidence either way."""
    ERROR = "error"
    """The gate itself could not run."""
    FAILED = "failed"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Outcome).index(self)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several outcomes; inconclusive if there are none, because nothing was looked at."""
    return max(outcomes, key=lambda outcome: outcome.rank, default=Outcome.INCONCLUSIVE)


def exit_code(worst_blocking: Outcome | None, counts: bool) -> int:
    """0 where nothing blocks; else 1 for a failure, 2 for an error, 3 for an inconclusive verdict.

    Args:
        worst_blocking: worst outcome that stops a merge; None where none does.
        counts: whether there is a verdict, and the input was not refused; 2 otherwise.
    """
    if not counts:
        return _EXIT_CODES[Outcome.ERROR]
    return _EXIT_CODES[worst_blocking] if worst_blocking else 0


_EXIT_CODES = {Outcome.FAILED: 1, Outcome.ERROR: 2, Outcome.INCONCLUSIVE: 3}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a gate's function found, before anyone judges it."""

    statistic: float
    """Badness in the gate's unit; NaN where it cannot be measured."""
    interval: tuple[float, float] | None = None
    """Where the statistic may lie; None where it is exact."""
    diagnosis: str
    """One sentence: what is so, or where NaN, why nothing could be measured."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, and the steps, layers or rows they come from."""
    limit: float | None = None
    """In place of the gate's own, where only the subject can tell it."""
    remedy: str = ""
    """In place of the gate's own, where the evidence points to a better one."""
    subject: str = ""
    """What exactly was measured, where a gate has several: a metric, a slice, a run."""
    reason: Reason | None = None
    """Why something could not be measured; None where all was, or a gate of one's own says it in other words."""


def unmeasured(why: Reason | str, told: str = "", /, **evidence: Any) -> Reading:
    """A reading that says nothing about the subject; it is judged inconclusive.

    Args:
        why: one of our own reasons, or a sentence.
        told: instead of the reason's sentence, where there is more to say here: numbers, names.
        evidence: what is known all the same.
    """
    reason = why if isinstance(why, Reason) else None
    diagnosis = told or (reason.sentence if reason else str(why))
    return Reading(statistic=math.nan, diagnosis=diagnosis, evidence=evidence, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A reading with the name, unit and limit of its gate."""

    gate: str
    unit: str
    limit: float
    floor: float
    """Smallest limit that calibration may set: a smaller effect is no fault, however rare."""
    calibrated: bool
    """Whether clean runs say how large the statistic is without a fault."""
    remedy: str
    reading: Reading
    error: str = ""
    """Why the gate could not run."""
    seconds: float = 0.0

    @property
    def badness(self) -> float:
        """The lower end of the statistic above the limit; orders the measurements of one gate."""
        low, _ = self.ends
        return -math.inf if self.error or math.isnan(low) else low - self.limit

    @property
    def ends(self) -> tuple[float, float]:
        """Of the interval; twice the statistic where it is exact."""
        return self.reading.interval or (self.reading.statistic, self.reading.statistic)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate's outcome, with all that a person needs to act on it. Its JSON form is this dataclass."""

    gate: str
    subject: str
    outcome: Outcome
    blocks: bool
    """Whether this outcome stops a merge."""
    statistic: float | None
    interval: tuple[float, float] | None
    threshold: float | None
    unit: str
    basis: str
    """Where the threshold comes from."""
    diagnosis: str
    remedy: str
    evidence: Mapping[str, Any]
    seconds: float
    reason: Reason | None = None
    """Of an inconclusive verdict, why not all could be measured; None where that is not so, or not known as a code."""
    test: str = ""
    """Node id of the acceptance test that asked for it; empty outside of `switchback gate`."""

    def __str__(self) -> str:
        name = f"{self.gate} ({self.subject})" if self.subject else self.gate
        return f"{self.outcome}: {name}: {self.diagnosis}" + (f" Fix: {self.remedy}" if self.remedy else "")


def judge(measurement: Measurement, threshold: float, basis: str, blocks: Callable[[Outcome], bool]) -> Verdict:
    """Failed where the whole interval lies above the threshold, passed where none of it does, else inconclusive."""
    reading = measurement.reading
    low, high = measurement.ends
    measured = not (math.isnan(low) or math.isnan(high))
    if measured and low > threshold:
        outcome = Outcome.FAILED
    elif measurement.error:
        outcome = Outcome.ERROR
    elif not measured:
        outcome = Outcome.INCONCLUSIVE
    else:
        outcome = Outcome.PASSED if high <= threshold else Outcome.INCONCLUSIVE
    return Verdict(
        gate=measurement.gate,
        subject=reading.subject,
        outcome=outcome,
        blocks=blocks(outcome),
        statistic=_finite(reading.statistic),
        interval=reading.interval,
        threshold=_finite(threshold),
        unit=measurement.unit,
        basis=basis,
        diagnosis=reading.diagnosis if outcome is Outcome.FAILED else measurement.error or reading.diagnosis,
        remedy="" if outcome is Outcome.PASSED else reading.remedy or (measurement.remedy if measured else ""),
        evidence=reading.evidence,
        seconds=round(measurement.seconds, 3),
        reason=reading.reason if outcome is Outcome.INCONCLUSIVE else None,
    )


class Gate:
    """A function from its subjects to a reading, with a name, a unit and a limit; made by `gate`."""

    def __init__(
        self, function: Callable[..., Reading], *, limit: float, unit: str, remedy: str, floor: float, calibrated: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.limit, self.unit, self.remedy, self.floor, self.calibrated = limit, unit, remedy, floor, calibrated
        self._function = function

    def __call__(self, *subjects: Any) -> Measurement:
        """Measure. What cannot be read becomes the outcome `error`, not an exception."""
        started, error = time.perf_counter(), ""
        try:
            reading = self._function(*subjects)
        except SwitchbackError as refused:
            subject = next((one for one in subjects if isinstance(one, str)), "")
            reading, error = replace(unmeasured(str(refused)), subject=subject), str(refused)
        return self._measurement(reading, error, time.perf_counter() - started)

    def over(self, subjects: Iterable[Any], *shared: Any) -> Measurement:
        """The worst measurement over several subjects, the runs of several seeds for instance.

        The one with the highest lower end speaks; the interval reaches up to the highest upper end, and to infinity
        where one cannot be measured or read: what one subject shows can fail the gate, but only all can pass it.

        Args:
            subjects: one after the other the first argument.
            shared: the further arguments.
        """
        found = [(str(getattr(one, "name", "")), self(one, *shared)) for one in subjects]
        if not found:
            return self._measurement(unmeasured(Reason.NOTHING))
        name, chosen = max(found, key=lambda pair: (pair[1].badness, bool(pair[1].error)))
        seconds, error = sum(one.seconds for _, one in found), next((one.error for _, one in found if one.error), "")
        reading = replace(chosen.reading, subject=chosen.reading.subject or name)
        if math.isnan(chosen.ends[0]):
            return replace(chosen, reading=reading, seconds=seconds)
        unknown = [pair for pair in found if math.isnan(pair[1].ends[0])]
        high = math.inf if unknown else max(one.ends[1] for _, one in found)
        if (chosen.ends[0], high) != chosen.ends:
            reading = replace(reading, interval=(chosen.ends[0], high))
        if unknown:
            which = ", ".join(filter(None, (name for name, _ in unknown))) or f"{len(unknown)} of {len(found)}"
            silent = unknown[0][1].reading
            told = f"{reading.diagnosis} Not measured in {which}: {silent.diagnosis}"
            reading = replace(reading, diagnosis=told, reason=silent.reason)
        return replace(chosen, reading=reading, seconds=seconds, error=error)

    def _measurement(self, reading: Reading, error: str = "", seconds: float = 0.0) -> Measurement:
        return Measurement(
            gate=self.name,
            unit=self.unit,
            limit=self.limit if reading.limit is None else reading.limit,
            floor=self.floor,
            calibrated=self.calibrated and reading.limit is None,
            remedy=self.remedy,
            reading=reading,
            error=error,
            seconds=seconds,
        )


def gate(
    *, limit: float, unit: str, remedy: str = "", floor: float | None = None, calibrated: bool = False
) -> Callable[[Callable[..., Reading]], Gate]:
    """Make a gate of a function that returns a reading; the function's name becomes the gate's.

    Args:
        limit: largest statistic that passes, where neither gates.yaml nor a calibration says otherwise.
        unit: of the statistic, for people.
        remedy: what to try where it fails.
        floor: smallest limit that a calibration may set; by default half the limit.
        calibrated: whether clean runs say how large the statistic is without a fault.
    """
    lowest = limit / 2 if floor is None else floor
    return lambda function: Gate(function, limit=limit, unit=unit, remedy=remedy, floor=lowest, calibrated=calibrated)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
