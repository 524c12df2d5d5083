"""Whether the data of now are those that the committed dvc.lock was made from: the drift gate, between their profiles.

`switchback gate --base` compares revisions. Here the revision is one, and the world has moved on: data/profile.json of
the committed lock, from DVC's cache or remote, against the one that the data stage made just now.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ci_tools.actions import output
from ci_tools.gates import Baseline, Run, Verdict
from ci_tools.gates.data import drift
from ci_tools.gates.policy import Judge, load
from ci_tools.gates.show import headline
from ci_tools.gates.verdict import Outcome

_PROFILE = "data/profile.json"


@dataclass(frozen=True)
class Drift:
    """What the gate found."""

    verdict: Verdict

    @property
    def found(self) -> bool:
        """Whether the data drifted beyond the limit."""
        return self.verdict.outcome is Outcome.FAILED

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        one = self.verdict
        return {"drifted": self.found, "outcome": one.outcome, "statistic": one.statistic, "limit": one.threshold,
                "diagnosis": one.diagnosis}  # fmt: skip

    def __str__(self) -> str:
        return f"{headline(self.verdict)}\n  {self.verdict.diagnosis}"


def against_lock(ref: str = "HEAD") -> Drift:
    """Compare data/profile.json with that of a revision's dvc.lock. In a workflow, `drifted` becomes an output.

    Raises:
        RecordError: that revision's data are neither in DVC's cache nor in its remote.
        DataError: one of the profiles is missing or damaged.
        ConfigError: gates.yaml breaks a rule.
    """
    from ci_tools.revisions import resolve

    judge = Judge(load(), None, "", 1)
    with TemporaryDirectory(prefix="switchback-") as folder:
        before = Path(folder, "before")
        (before / "data").mkdir(parents=True)
        resolve(f"{ref}:{_PROFILE}", Path(folder)).rename(before / _PROFILE)
        found = Drift(judge.verdict(drift(Run(Path(), ()), Baseline(Run(before, ())))))
    output("drifted", found.found)
    return found
