"""Every gate over a run answers, without an exception or a warning, whatever the run left behind."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ci_tools.gates import convergence, gradients, labels, numerics, overfitting, specimen, timing
from ci_tools.gates.verdict import Gate

MODULES = (convergence, gradients, labels, numerics, overfitting, timing)
GATES = {one.name: one for module in MODULES for one in vars(module).values() if isinstance(one, Gate)}


def cut(run, axis, kept):
    """The run with only the first `kept` entries along one axis, named by the suffix of the field."""
    changes = {}
    for field in fields(run):
        suffix = field.name.rpartition("_")[2]
        value = getattr(run, field.name)
        if isinstance(value, np.ndarray) and suffix.isupper() and axis in suffix:
            changes[field.name] = np.take(value, range(kept), axis=suffix.index(axis))
    return replace(run, **changes, evals={} if axis == "E" else run.evals)


def filled(run, value):
    """The run with every measured float replaced."""
    names = [f.name for f in fields(run) if isinstance(getattr(run, f.name), np.ndarray)]
    arrays = {name: getattr(run, name) for name in names}
    return replace(run, **{n: np.full_like(a, value) for n, a in arrays.items() if a.dtype == np.float64}, evals={})


def without_layers(run):
    return replace(cut(run, "L", 0), layers=(), shapes=())


NASTY = {
    "no step": lambda run: cut(cut(cut(cut(run, "S", 0), "P", 0), "E", 0), "H", 0),
    "one step": lambda run: cut(cut(cut(cut(run, "S", 1), "P", 0), "E", 0), "H", 0),
    "five steps, one probe": lambda run: cut(cut(cut(cut(run, "S", 5), "P", 1), "E", 1), "H", 1),
    "no probe": lambda run: cut(run, "P", 0),
    "no layer": without_layers,
    "no margin": lambda run: cut(run, "N", 0),
    "one validation example": lambda run: cut(run, "V", 1),
    "NaN everywhere": lambda run: filled(run, np.nan),
    "infinity everywhere": lambda run: filled(run, np.inf),
    "zero everywhere": lambda run: filled(run, 0.0),
    "the largest float32 everywhere": lambda run: filled(run, 3.4e38),
    "no null loss": lambda run: replace(run, null_loss=float("nan")),
    "a null loss of 0": lambda run: replace(run, null_loss=0.0),
    "negative losses": lambda run: replace(run, loss_S=run.loss_S - 5, null_loss=-1.0),
    "failed at half": lambda run: replace(cut(run, "S", 100), status="failed"),
}


@pytest.mark.parametrize("nasty", NASTY, ids=str)
@pytest.mark.parametrize("name", GATES)
def test_gate_answers(name, nasty):
    run = NASTY[nasty](specimen.clean(1))
    reading = GATES[name](run).reading
    assert reading.diagnosis.endswith(".") or np.isnan(reading.statistic)
    if nasty in ("no step", "NaN everywhere"):
        assert np.isnan(reading.statistic) or reading.statistic > 0, "no data must not pass"


@pytest.mark.parametrize("nasty", NASTY, ids=str)
def test_slow_convergence_answers_beside_a_reference(nasty):
    reference = convergence.reference_of([specimen.clean(seed) for seed in (2, 3)])
    assert convergence.slow_convergence(NASTY[nasty](specimen.clean(1)), reference).reading.diagnosis
