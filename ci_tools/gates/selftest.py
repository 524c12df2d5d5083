"""`switchback gate --self-test`: planted faults, several per failure mode. A gate that cannot fail is a defect.

Every fault is planted alone into the same healthy specimen; the gates must stay silent on the specimen itself, and on
each fault the cause that `causes` names must be that fault's mode.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ci_tools.gates import specimen
from ci_tools.gates.causes import cause
from ci_tools.gates.convergence import divergence, slow_convergence
from ci_tools.gates.gradients import gradient_noise, vanishing_gradients
from ci_tools.gates.labels import label_noise
from ci_tools.gates.leakage import data_leakage
from ci_tools.gates.numerics import numerical_instability
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.plants import PLANTS, Plant
from ci_tools.gates.policy import Judge
from ci_tools.gates.reproducibility import checkpoint_corruption
from ci_tools.gates.specimen import Case
from ci_tools.gates.timing import stragglers
from ci_tools.gates.verdict import Gate, Measurement, Outcome

MODES: tuple[Gate, ...] = (
    divergence,
    vanishing_gradients,
    overfitting,
    slow_convergence,
    gradient_noise,
    stragglers,
    checkpoint_corruption,
    data_leakage,
    numerical_instability,
    label_noise,
)
"""The gate of each failure mode; its name is the mode's."""


@dataclass(frozen=True)
class Finding:
    """What the gates said of one case."""

    planted: str
    """Mode; empty for the healthy specimen."""
    plant: str
    """Which of the mode's faults."""
    named: str
    """Cause; empty where no gate failed."""
    failed: tuple[str, ...]
    diagnosis: str

    @property
    def right(self) -> bool:
        """Whether the planted mode, and with a healthy specimen nothing, was named."""
        return self.planted == self.named


@dataclass(frozen=True)
class SelfTest:
    """What the gates said of the healthy specimen and of every planted fault."""

    findings: Sequence[Finding]

    @property
    def ok(self) -> bool:
        """Whether every fault was named rightly, and the healthy specimen was not accused."""
        return all(finding.right for finding in self.findings)

    def render(self) -> str:
        """A line for the healthy specimen and one per mode, and the verdict."""
        by_mode: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_mode.setdefault(finding.planted, []).append(finding)
        lines = [_line(mode, found) for mode, found in by_mode.items()]
        modes = [found for mode, found in by_mode.items() if mode]
        right = sum(all(finding.right for finding in found) for found in modes)
        lines.append(f"{right} of {len(modes)} modes named rightly by {sum(map(len, modes))} planted faults")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {"ok": self.ok, "findings": [asdict(finding) | {"right": finding.right} for finding in self.findings]}


def _line(mode: str, found: Sequence[Finding]) -> str:
    wrong = [finding for finding in found if not finding.right]
    mark = "WRONG" if wrong else "ok   "
    if not mode:
        return f"{mark} healthy run: {_said(found[0])}"
    missed = "; ".join(f"{finding.plant}: {_said(finding)}" for finding in wrong)
    return f"{mark} {mode}: {len(found) - len(wrong)} of {len(found)} plants" + (f" ({missed})" if missed else "")


def _said(finding: Finding) -> str:
    return f"named {finding.named}" if finding.named else "nothing found"


def in_force() -> SelfTest:
    """The self-test under the gates.yaml and calibration.json of the working directory.

    Raises:
        ConfigError: one of them breaks a rule.
    """
    from ci_tools.gates.acceptance import accept  # it needs pytest, which takes longer to import than all of this

    return SelfTest(self_test(accept().judge))


def self_test(
    judge: Judge, gates: Sequence[Gate] = MODES, plants: Mapping[str, Mapping[str, Plant]] = PLANTS
) -> list[Finding]:
    """Examine the healthy specimen, then each planted fault, under the limits that are in force."""
    with tempfile.TemporaryDirectory(prefix="switchback-") as scratch:
        healthy = specimen.healthy(Path(scratch) / "healthy")
        findings = [_examine("", "", healthy, gates, judge)]
        for mode, faults in plants.items():
            findings += [_examine(mode, name, plant(healthy), gates, judge) for name, plant in faults.items()]
    return findings


def _examine(mode: str, plant: str, case: Case, gates: Sequence[Gate], judge: Judge) -> Finding:
    found: dict[str, Measurement] = {gate.name: gate(*case.subjects(gate.name)) for gate in gates}
    failed = [name for name, one in found.items() if judge.verdict(one).outcome is Outcome.FAILED]
    named = cause(failed)
    return Finding(mode, plant, named, tuple(failed), found[named].reading.diagnosis if named else "")
