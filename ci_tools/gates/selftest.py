"""`switchback gate --self-test`: one planted fault per failure mode. A gate that cannot fail is a defect.

Every fault is planted alone into the same healthy specimen; the gates must stay silent on the specimen itself, and on
each fault the cause that `causes` names must be that fault's mode.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import calibration, policy, specimen
from ci_tools.gates.calibration import Reference
from ci_tools.gates.causes import cause
from ci_tools.gates.convergence import divergence, reference_of, slow_convergence
from ci_tools.gates.gradients import gradient_noise, vanishing_gradients
from ci_tools.gates.labels import label_noise
from ci_tools.gates.leakage import data_leakage
from ci_tools.gates.numerics import numerical_instability
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.policy import Judge
from ci_tools.gates.reproducibility import checkpoint_corruption
from ci_tools.gates.splits import Rows, Splits
from ci_tools.gates.timing import stragglers
from ci_tools.gates.training import Series, Training
from ci_tools.gates.verdict import Gate, Measurement, Outcome
from ci_tools.record import open_record

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


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that the gates of the ten modes look at."""

    training: Training
    reference: Reference
    label_N: NDArray[Any]
    splits: Splits
    record: Path

    def subjects(self, name: str) -> tuple[Any, ...]:
        """What the gate of this name is called with."""
        special = {
            "slow_convergence": (self.training, self.reference),
            "label_noise": (self.training, self.label_N),
            "data_leakage": (self.splits,),
            "checkpoint_corruption": (open_record(self.record),),
        }
        return special.get(name, (self.training,))


@dataclass(frozen=True)
class Finding:
    """What the gates said of one case."""

    planted: str
    """Mode; empty for the healthy specimen."""
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
        """A line per case, and the verdict."""
        lines = []
        for finding in self.findings:
            said = f"named {finding.named}" if finding.named else "nothing found"
            others = [name for name in finding.failed if name != finding.named]
            more = f" (also failed: {', '.join(others)})" if others else ""
            mark = "ok   " if finding.right else "WRONG"
            lines.append(f"{mark} {finding.planted or 'healthy run'}: {said}{more}")
        right = sum(finding.right for finding in self.findings if finding.planted)
        lines.append(f"{right} of {len(self.findings) - 1} planted faults named rightly")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {"ok": self.ok, "findings": [asdict(finding) | {"right": finding.right} for finding in self.findings]}


def in_force() -> SelfTest:
    """The self-test under the gates.yaml and calibration.json of the working directory.

    Raises:
        ConfigError: one of them breaks a rule.
    """
    known = calibration.load()
    return SelfTest(self_test(Judge(policy.load(), known, "", len(known.statistics) if known else 0)))


def self_test(judge: Judge, gates: Sequence[Gate] = MODES) -> list[Finding]:
    """Examine the healthy specimen, then each planted fault, under the limits that are in force."""
    with tempfile.TemporaryDirectory(prefix="switchback-") as scratch:
        healthy = _healthy(Path(scratch))
        findings = [_examine("", healthy, gates, judge)]
        return findings + [_examine(mode, plant(healthy), gates, judge) for mode, plant in PLANTS.items()]


def _healthy(folder: Path) -> Case:
    training = specimen.clean()
    specimen.write_record(training, folder)
    return Case(
        training=training,
        reference=reference_of([specimen.clean(seed) for seed in range(1, 6)]),
        label_N=np.arange(len(training.margin_N)) % 2,
        splits=specimen.splits(),
        record=folder,
    )


def _examine(planted: str, case: Case, gates: Sequence[Gate], judge: Judge) -> Finding:
    found: dict[str, Measurement] = {gate.name: gate(*case.subjects(gate.name)) for gate in gates}
    failed = [name for name, one in found.items() if judge.verdict(one).outcome is Outcome.FAILED]
    named = cause(failed)
    return Finding(planted, named, tuple(failed), found[named].reading.diagnosis if named else "")


# -- the faults -------------------------------------------------------------------------------------------------------

_NOISE = np.random.default_rng(7).normal(size=(specimen.STEPS, len(specimen.SHAPES)))


def _diverging(case: Case) -> Case:
    """From the middle on, loss and gradients double every ten steps."""
    t = case.training
    growth_S = 2.0 ** (np.maximum(t.step_S - len(t.step_S) // 2, 0) / 10)
    return _with(
        case,
        loss_S=t.loss_S * growth_S,
        grad_norm_S=t.grad_norm_S * growth_S,
        grad_rms_SL=t.grad_rms_SL * growth_S[:, None],
        grad_absmax_SL=t.grad_absmax_SL * growth_S[:, None],
    )


def _vanishing(case: Case) -> Case:
    """Each layer passes on a hundredth of its gradient, and the loss stays at the null loss."""
    t = case.training
    depth_L = np.arange(len(t.layers))[::-1] // 2
    faded_SL = t.grad_rms_SL * 0.01**depth_L
    return _with(
        case,
        loss_S=t.null_loss * np.exp(0.02 * _NOISE[:, 0]),
        grad_rms_SL=faded_SL,
        grad_absmax_SL=4 * faded_SL,
        update_ratio_PL=t.update_ratio_PL * 0.01**depth_L,
        example_loss_EV=np.full_like(t.example_loss_EV, t.null_loss),
        margin_N=np.abs(t.margin_N) / 100,
    )


def _overfitted(case: Case) -> Case:
    """After the second evaluation the validation loss rises while the training loss goes on falling."""
    t = case.training
    late_E = np.maximum(np.arange(len(t.example_step_E)) - 1, 0)
    loss_EV = t.example_loss_EV + 0.05 * late_E[:, None]
    evals = {("validation", "loss"): Series(step_E=t.example_step_E, value_E=loss_EV.mean(axis=1))}
    return _with(case, example_loss_EV=loss_EV, evals=evals, loss_S=t.loss_S * 0.97 ** (t.step_S / 10))


def _slow(case: Case) -> Case:
    """The loss needs thirty times as many steps."""
    t = case.training
    loss_S = specimen.fall(30 * len(t.step_S))[: len(t.step_S)] * np.exp(0.06 * _NOISE[:, 0])
    return _with(case, loss_S=loss_S, example_loss_EV=np.full_like(t.example_loss_EV, loss_S[-1]))


def _noisy(case: Case) -> Case:
    """The gradients of two halves of a batch have nothing in common."""
    t = case.training
    cosine_PL = 0.01 * _NOISE[: len(t.probe_step_P)]
    return _with(
        case,
        half_cosine_PL=cosine_PL,
        gradient_square_P=t.gradient_square_P * 1e-3,
        noise_scale_P=t.noise_scale_P * 1e3,
    )


def _straggling(case: Case) -> Case:
    """The second half takes three times as long per step."""
    t = case.training
    return _with(case, step_ms_S=np.where(t.step_S < len(t.step_S) // 2, 1, 3) * t.step_ms_S)


def _corrupted(case: Case) -> Case:
    """One bit of one weight of the checkpoint is flipped."""
    folder = case.record.with_name(f"{case.record.name}-corrupted")
    folder.mkdir()
    specimen.write_record(case.training, folder)
    (weights,) = folder.glob("checkpoints/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return replace(case, record=folder)


def _leaking(case: Case) -> Case:
    """A fifth of the test rows is also trained on."""
    train, test = case.splits.train, case.splits.test
    copied = slice(None, len(test.label_N) // 5)
    rows = Rows(
        numeric_NF=np.concatenate([train.numeric_NF, test.numeric_NF[copied]]),
        label_N=np.concatenate([train.label_N, test.label_N[copied]]),
    )
    return replace(case, splits=replace(case.splits, train=rows))


def _unstable(case: Case) -> Case:
    """Cancellation has eaten most digits of every gradient."""
    return _with(case, shadow_error_HL=case.training.shadow_error_HL * 1e5)


def _mislabelled(case: Case) -> Case:
    """A fifth of the training examples carry the other label."""
    flipped_N = np.arange(len(case.training.margin_N)) % 5 == 0
    margin_N = np.where(flipped_N, -1, 1) * case.training.margin_N
    return _with(case, margin_N=margin_N, loss_S=0.4 * case.training.null_loss + 0.6 * case.training.loss_S)


PLANTS: dict[str, Callable[[Case], Case]] = {
    "divergence": _diverging,
    "vanishing_gradients": _vanishing,
    "overfitting": _overfitted,
    "slow_convergence": _slow,
    "gradient_noise": _noisy,
    "stragglers": _straggling,
    "checkpoint_corruption": _corrupted,
    "data_leakage": _leaking,
    "numerical_instability": _unstable,
    "label_noise": _mislabelled,
}
"""One fault per mode."""


def _with(case: Case, **changes: Any) -> Case:
    return replace(case, training=replace(case.training, **changes))
