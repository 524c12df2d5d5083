"""gates.yaml: which verdicts stop a merge, and what the quality gates demand."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ci_tools import config
from ci_tools.config import Config, leaves
from ci_tools.errors import ConfigError
from ci_tools.gates import authority
from ci_tools.gates.calibration import Calibration
from ci_tools.gates.verdict import Measurement, Outcome, Verdict, judge

FILE = Path("gates.yaml")

PER_METRIC = ("quality_floor", "quality_against_main", "slices_against_main", "simpler_model")
"""Gates whose limits stand under `metrics`, each in its metric's unit."""

Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class Rule(Config):
    """What one gate's verdict means."""

    blocks: bool = True
    """Whether `failed` and `error` stop a merge."""
    inconclusive: Literal["passes", "blocks"] = "passes"
    """What an inconclusive verdict of a blocking gate means for the merge."""
    limit: float | None = None
    """Largest statistic that passes, in the gate's unit, in place of calibration and default."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.blocks and self.inconclusive == "blocks":
            raise ValueError("inconclusive: blocks says nothing where blocks is false")
        return self

    def stops(self, outcome: Outcome) -> bool:
        """Whether this outcome stops a merge."""
        if outcome is Outcome.INCONCLUSIVE:
            return self.blocks and self.inconclusive == "blocks"
        return self.blocks and outcome is not Outcome.PASSED


class Metric(Config):
    """What is demanded of one metric of evaluation/metrics.json."""

    higher_is_better: bool = True
    floor: float | None = None
    """Worst value that passes, whatever `main` reaches; in the metric's unit."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """Loss against `main` that is tolerated, in the metric's unit; none: not compared."""
    slice_margin: Annotated[float, Field(gt=0)] | None = None
    """The same for each slice; none: slices are not compared."""
    simpler_margin: Annotated[float, Field(ge=0)] | None = None
    """How far a simpler model may be ahead, in the metric's unit; none: not compared."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.margin is not None and self.slice_margin is not None and self.slice_margin < self.margin:
            raise ValueError("slice_margin must be at least margin: a slice has fewer rows than the whole")
        return self


class AgainstMain(Config):
    """How new runs are compared with those of the base revision."""

    seeds: Annotated[int, Field(ge=2)] = 5
    """Paired seeds per arm to begin with; fewer where params.yaml lists fewer."""
    max_seeds: Annotated[int, Field(ge=2)] = 10
    """Paired seeds per arm at most, where fewer do not decide."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the interval of a difference."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_seeds < self.seeds:
            raise ValueError(f"max_seeds ({self.max_seeds}) must be at least seeds ({self.seeds})")
        return self


class Policy(Config):
    """gates.yaml, whole."""

    false_alarms: Probability = 0.01
    """Probability that a clean change fails any calibrated gate in any of its runs; each gets an equal part."""
    gates: dict[str, Rule] = Field(default_factory=dict)
    """Rules that differ from the default, by gate."""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    """What is demanded of the quality metrics, by name."""
    against_main: AgainstMain = AgainstMain()

    @model_validator(mode="after")
    def _no_limit_beside_margins(self) -> Self:
        for name, rule in self.gates.items():
            if name in PER_METRIC and rule.limit is not None:
                raise ValueError(f"gates.{name}.limit contradicts metrics: its limits are set there, metric by metric")
        return self

    def rule(self, gate: str) -> Rule:
        """The rule of one gate."""
        return self.gates.get(gate, Rule())

    def refuse_unknown(self, ran: Iterable[str]) -> None:
        """Refuse rules for gates that no acceptance test ran.

        Raises:
            ConfigError: names the first.
        """
        known = sorted(set(ran))
        for name in self.gates:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                fix = f"did you mean `{near[0]}`?" if near else "correct the name, or remove the rule"
                raise ConfigError(f"gates.{name}: no test ran a gate of this name", where=FILE, fix=fix)


def load(path: Path | None = None) -> Policy:
    """The policy that judges, see `authority`, or the one of a file; the defaults where there is no gates.yaml.

    Raises:
        ConfigError: a key is unknown, or a value breaks a rule or contradicts another.
    """
    path = authority.locate(FILE) if path is None else path
    return config.load(path, Policy) if path.exists() else Policy()


def load_for_report(root: Path) -> Policy:
    """The gates.yaml that judged the run under `root`; of a broken one the defaults: its verdicts were refused."""
    try:
        return load(authority.kept(root, FILE))
    except ConfigError:
        return Policy()


class Judge:
    """Turns measurements into verdicts under one policy."""

    def __init__(self, policy: Policy, calibration: Calibration | None, mismatch: str, tests: int) -> None:
        """`mismatch`: why the calibration does not apply to the run at hand.

        `tests`: how many calibrated statistics share the budget of false alarms: gates times seeds.
        """
        self.policy = policy
        self._calibration = None if mismatch else calibration
        self._why_not = mismatch or ("" if calibration else "no calibration.json")
        self._budget = policy.false_alarms / max(tests, 1)

    def verdict(self, measurement: Measurement) -> Verdict:
        """Judge one measurement. gates.yaml comes first, then calibration where the gate has one, then the default."""
        rule = self.policy.rule(measurement.gate)
        threshold, basis = measurement.limit, "default"
        if rule.limit is not None:
            threshold, basis = rule.limit, "gates.yaml"
        elif measurement.calibrated:
            found = self._calibration.limit(measurement, self._budget) if self._calibration else None
            if found is None:
                basis = f"default: {self._why_not or 'too few clean runs'}"
            else:
                runs = len(self._calibration.statistics[measurement.gate]) if self._calibration else 0
                threshold, basis = found, f"calibrated on {runs} clean runs"
        return judge(measurement, threshold, basis, rule.stops)


def difference(old: Policy, new: Policy) -> list[str]:
    """One line `key old → new` per value that differs, so that a loosened policy shows in the report."""
    return changes(_explicit(old), _explicit(new))


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line `key old → new` per value that differs; a key that one side lacks is unset there."""
    return [
        f"{key} {_shown(before.get(key))} → {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _explicit(policy: Policy) -> Mapping[str, Any]:
    """All values by dotted key; those of a rule that equals the default stand for nothing."""
    flat: dict[str, Any] = leaves(policy.model_dump(mode="json"))
    defaults = leaves({"gates": {name: Rule().model_dump(mode="json") for name in policy.gates}})
    return {key: value for key, value in flat.items() if key not in defaults or value != defaults[key]}


def _shown(value: object) -> str:
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
