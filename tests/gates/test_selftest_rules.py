"""The self-test notices every single rule of a gate that falls silent, and by the faults of that rule alone."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from ci_tools.gates import Gate, Reading
from ci_tools.gates.plants import PLANTS
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.selftest import MODES, self_test
from ci_tools.record import Record, schema
from ci_tools.repro import manifest


def missed(mode, gates):
    """Faults of one mode that are not named rightly; the healthy specimen is ''."""
    findings = self_test(Judge(Policy(), None, "", 0), gates, {mode: PLANTS[mode]})
    return {finding.plant for finding in findings if not finding.right}


# Each of these makes a function (monkeypatch, mode) -> gates in which one rule is silent.


def patched(place, name, make):
    """One function or constant of a module of the gates, or of an object, becomes what `make` makes of it."""

    def silence(monkeypatch, mode):
        owner = importlib.import_module(f"ci_tools.gates.{place}") if isinstance(place, str) else place
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))
        return MODES

    return silence


def always(value):
    return lambda original: lambda *args: value


def rewrapped(make):
    """The mode's gate measures by what `make` makes of its function."""

    def silence(monkeypatch, mode):
        def mutant(gate):
            reading = make(lambda *subjects: gate(*subjects).reading)
            reading.__name__ = gate.name
            return Gate(reading, limit=gate.limit, unit="", remedy="", floor=gate.floor, calibrated=False)

        return [mutant(gate) if gate.name == mode else gate for gate in MODES]

    return silence


def blind(change):
    """The gate looks at a run without what gives the fault away."""
    return rewrapped(lambda gate: lambda training, *others: gate(replace(training, **change(training)), *others))


def by_evidence(statistic):
    """The gate's statistic is taken from its evidence alone."""

    def told(reading):
        return replace(reading, statistic=statistic(reading.evidence))

    return rewrapped(lambda gate: lambda *subjects: told(gate(*subjects)))


def without_signs(*names):
    return patched("leakage", "_signs", lambda signs: lambda splits: [s for s in signs(splits) if s.name not in names])


def only_near_copies(which):
    """Of the two distances below which a row is a near copy, the tighter is 0 and the wider 1."""
    return patched("leakage", "_near_copies", lambda near: lambda *args: list(near(*args))[which : which + 1])


def flat(columns):
    """Gradients of some layers are as large at the input as at the output."""

    def change(training):
        rms_SL = training.grad_rms_SL.copy()
        rms_SL[:, columns] = 1e-2 / np.sqrt([np.prod(shape) for shape in training.shapes[columns]])
        return {"grad_rms_SL": rms_SL}

    return blind(change)


def at_null(training):
    return replace(training, loss_S=np.full_like(training.loss_S, training.null_loss))


RULES = {
    "divergence": {
        "rise": (
            patched("convergence", "rise", lambda f: lambda t: f(t)._replace(height=f(t).height * f(t).blew_up)),
            {"the loss rises"},
        ),
        "blow-up": (patched("rise", "height_before", always(0.0)), {"the gradient explodes", "the loss explodes"}),
        "gradient's blow-up": (
            blind(lambda t: {"grad_norm_S": np.ones_like(t.grad_norm_S)}),
            {"the gradient explodes"},
        ),
        "loss's blow-up": (
            patched("rise", "height_before", lambda height: lambda t, row: height(at_null(t), row)),
            {"the loss explodes"},
        ),
        "silent layers": (patched("convergence", "_silent_share", always(0.0)), {"every layer falls silent"}),
        "returns": (blind(lambda t: {"recoveries": ()}), {"a return to a checkpoint"}),
    },
    "vanishing_gradients": {
        "weights": (flat(slice(0, None, 2)), {"in the weights"}),
        "biases": (flat(slice(1, None, 2)), {"in the biases"}),
    },
    "overfitting": {
        "losses per example": (
            blind(lambda t: {"example_step_E": t.example_step_E[:0], "example_loss_EV": t.example_loss_EV[:0, :0]}),
            {"in losses per example"},
        ),
        "mean loss": (blind(lambda t: {"evals": {}}), {"in the mean loss"}),
    },
    "slow_convergence": {
        "against clean runs": (
            rewrapped(lambda gate: lambda training, reference: gate(training)),
            {"slower than clean runs"},
        ),
        "on its own": (
            rewrapped(
                lambda gate: (
                    lambda training, reference: (
                        gate(training, reference) if reference else Reading(statistic=0.0, diagnosis="nothing")
                    )
                )
            ),
            {"nothing learned"},
        ),
    },
    "gradient_noise": {
        "halves of a batch": (patched("gradients", "_noise_ratio", always(0.0)), {"halves of a batch disagree"}),
    },
    "stragglers": {
        "windows": (by_evidence(lambda evidence: evidence["periodic ratio"]), {"slow for long"}),
        "phases": (patched("timing", "_worst_phase", always((2, 0, 1.0))), {"every seventh step"}),
    },
    "checkpoint_corruption": {
        "digests of a checkpoint": (
            patched(manifest, "verify", lambda verify: manifest.read_manifest),
            {"a flipped bit", "a file of a checkpoint is gone"},
        ),
        "digests in run.json": (
            patched(Record, "changed_files", always([])),
            {"a changed manifest", "a file of the record is gone", "an earlier checkpoint is gone"},
        ),
        "manifests": (
            patched(
                Record,
                "changed_files",
                lambda changed: (
                    lambda record: [
                        name for name in changed(record) if "/" not in name or not (record.path / name).exists()
                    ]
                ),
            ),
            {"a changed manifest"},
        ),
        "files": (
            patched(Record, "changed_files", lambda changed: lambda record: [n for n in changed(record) if "/" in n]),
            {"a file of the record is gone"},
        ),
        "checkpoints in run.json": (
            patched(
                Record,
                "changed_files",
                lambda changed: (
                    lambda record: [name for name in changed(record) if (record.path / name).parent.exists()]
                ),
            ),
            {"an earlier checkpoint is gone"},
        ),
        "last checkpoint": (patched("reproducibility", "_released", always(set())), {"the last checkpoint is gone"}),
        "best checkpoint": (
            patched(manifest, "verify", lambda verify: lambda folder: verify(folder) | {"best_step": 0}),
            {"the best checkpoint is gone"},
        ),
        "rows": (patched("reproducibility", "_wrong_rows", always("")), {"a checkpoint of another step"}),
        "weights": (patched("reproducibility", "_wrong_weights", always("")), {"weights that are not finite"}),
        "trace": (
            by_evidence(lambda evidence: len(evidence.get("damaged", {}).keys() - {schema.TRACE})),
            {"a torn trace"},
        ),
    },
    "data_leakage": {
        "all but exact copies": (
            without_signs("near_copies", "entities", "time", "telling_column"),
            set(PLANTS["data_leakage"]) - {"exact copies"},
        ),
        "exact copies": (without_signs("exact_copies"), {"exact copies"}),
        "near copies": (without_signs("near_copies"), {"few near copies", "rough copies"}),
        "tight distance": (only_near_copies(1), {"few near copies"}),
        "wide distance": (only_near_copies(0), {"rough copies"}),
        "entities": (without_signs("entities"), {"entities on both sides"}),
        "time": (without_signs("time"), {"overlap in time"}),
        "telling columns": (without_signs("telling_column"), {"a telling number", "a telling category"}),
        "numbers": (
            patched("telling", "best", lambda best: lambda x, codes, y: best(x[:, :0], codes, y)),
            {"a telling number"},
        ),
        "categories": (
            patched("telling", "best", lambda best: lambda x, codes, y: best(x, codes[:, :0], y)),
            {"a telling category"},
        ),
    },
    "numerical_instability": {
        "shadow steps": (
            patched("numerics", "_worst_shadow", always((None, 0))),
            {"cancellation", "made-up gradients"},
        ),
        "behind a divergence": (patched("numerics", "SPURIOUS", lambda value: np.inf), {"made-up gradients"}),
        "rounding errors": (
            blind(lambda t: {"shadow_error_HL": np.where(t.shadow_error_HL < 1, 0.0, t.shadow_error_HL)}),
            {"cancellation"},
        ),
        "broken steps": (
            patched("numerics", "_broken_steps", always(0)),
            {"a NaN gradient", "a NaN loss", "half precision overflows"},
        ),
        "gradients": (
            patched("numerics", "_broken_steps", lambda f: lambda t: f(replace(t, nonfinite_S=0 * t.nonfinite_S))),
            {"a NaN gradient", "half precision overflows"},
        ),
        "losses": (patched("numerics", "_broken_steps", lambda f: lambda t: f(at_null(t))), {"a NaN loss"}),
        "skipped steps": (patched("numerics", "SCALER_SKIPS", lambda value: 1.0), {"half precision overflows"}),
    },
    "label_noise": {
        "against validation": (
            patched("labels", "_against_validation", always(None)),
            {"against validation", "targets of a regression"},
        ),
        "doubted": (patched("labels", "_doubted", always(1.0)), {"against validation"}),
        "apart": (patched("labels", "_apart", always(None)), {"apart from their class"}),
        "large errors": (patched("labels", "_large_errors", always(0.0)), {"targets of a regression"}),
    },
}
"""By mode and rule: how to silence it, and the faults that nothing else sees."""


@pytest.mark.parametrize(("mode", "rule"), [(mode, rule) for mode, rules in RULES.items() for rule in rules])
def test_silent_rule_is_noticed_by_its_own_faults(mode, rule, monkeypatch):
    silence, faults = RULES[mode][rule]
    assert missed(mode, silence(monkeypatch, mode)) == faults


def test_every_planted_fault_depends_on_a_rule():
    guarded = {mode: set().union(*(faults for _, faults in rules.values())) for mode, rules in RULES.items()}
    assert guarded == {mode: set(faults) for mode, faults in PLANTS.items()}
