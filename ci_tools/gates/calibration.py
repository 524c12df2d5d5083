"""What clean runs look like: each calibrated gate's statistic over N of them, kept in calibration.json under git.

A limit is drawn from the N statistics so that a clean run exceeds it with a small, stated probability.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError, model_validator

from ci_tools.config import Config
from ci_tools.errors import ConfigError
from ci_tools.gates import authority
from ci_tools.gates.verdict import Measurement

FILE = Path("calibration.json")
CEILING = 1.5
"""Largest limit, over the largest clean statistic, where that is beyond the gate's own limit."""
FEWEST_RUNS = 5
"""Fewer clean runs say nothing about rare values."""


class Reference(Config):
    """How the loss of the clean runs fell, for comparison at equal numbers of examples seen."""

    samples: tuple[int, ...]
    """Examples seen at each point."""
    loss: tuple[float, ...]
    """Median over the clean runs of the smoothed training loss there."""

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.samples) != len(self.loss):
            raise ValueError(f"loss has {len(self.loss)} points, samples {len(self.samples)}")
        return self


class Calibration(Config):
    """calibration.json. Written by `switchback calibrate`, reviewed as a diff."""

    schema_version: int = 1
    params_digest: str
    """Of the params that decide a run, as in run.json."""
    fingerprint: dict[str, str]
    """The stack that made the clean runs."""
    commit: str
    dirty: bool = False
    """Whether the files that were trained differed from the commit's."""
    date: str
    seeds: tuple[int, ...]
    """Of the clean runs."""
    statistics: dict[str, tuple[float, ...]]
    """Per gate, one value per clean run."""
    reference: Reference

    def limit(self, measurement: Measurement, false_alarms: float) -> float | None:
        """The calibrated limit of a gate; None where these runs do not tell.

        Args:
            measurement: says which gate, and how low its limit may go.
            false_alarms: acceptable probability that a clean run exceeds the limit.
        """
        values = self.statistics.get(measurement.gate, ())
        if len(values) < FEWEST_RUNS or not all(map(math.isfinite, values)):
            return None
        # Few runs can only support a limit far beyond all of them; a fault that reached it would have been plain.
        ceiling = max(measurement.limit, CEILING * max(values))
        return max(min(upper_quantile(values, false_alarms), ceiling), measurement.floor)

    def mismatch(self, params_digest: str, fingerprint: Mapping[str, str], seeds: Sequence[int] = ()) -> str:
        """Why these runs say nothing about runs of these seeds made elsewhere; empty where they do."""
        if set(seeds) & set(self.seeds):
            return "calibration.json was made from the very seeds that are judged"
        if params_digest != self.params_digest:
            return "calibration.json was made with other params"
        other = sorted(
            key
            for key in fingerprint.keys() | self.fingerprint.keys()
            if fingerprint.get(key) != self.fingerprint.get(key)
        )
        return f"calibration.json was made on another stack ({other[0]})" if other else ""


def upper_quantile(values: Sequence[float], probability: float) -> float:
    """A value that a further draw exceeds with about `probability`, from few draws.

    Up to 1/(N + 1) the largest of N exchangeable draws is such a value without any assumption. Beyond the data the
    k excesses over the median are taken as exponential: of the maximum-entropy tails with their mean the one that falls
    slowest. As that mean is itself estimated from k draws, the next excess follows a Lomax distribution with shape k
    (Lawless 1971, "A prediction problem concerning samples from the exponential distribution"): with the exponential
    quantile in its place, 20 clean runs would alarm up to five times as often as stated.

    Args:
        values: N draws.
        probability: of exceeding, in (0, 1).
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    largest = float(x[-1])
    if probability >= 1 / (n + 1):
        return float(x[math.ceil((n + 1) * (1 - probability)) - 1])
    median = float(np.median(x))
    excess = x[x > median] - median
    k = len(excess)
    return max(largest, median + float(excess.sum()) * ((0.5 / probability) ** (1 / k) - 1)) if k else largest


def load(path: Path | None = None) -> Calibration | None:
    """The calibration that judges, see `authority`, or the one of a file; None where there is none.

    Raises:
        ConfigError: the file is not a calibration.
    """
    path = authority.locate(FILE) if path is None else path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    fix = "run `switchback calibrate` again"
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw.get("schema_version") != 1:
            raise ConfigError(f"has schema version {raw.get('schema_version')}", where=path, rule="1 is read", fix=fix)
        return Calibration.model_validate_json(text)
    except (ValueError, AttributeError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"is not a calibration ({what})", where=path, fix=fix) from None


def save(calibration: Calibration, path: Path = FILE) -> None:
    """Write the file that `load` reads; law: load after save returns an equal calibration."""
    path.write_text(json.dumps(calibration.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
