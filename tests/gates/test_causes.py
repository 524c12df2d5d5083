"""Which of several failed gates names the cause."""

import importlib

import pytest

from ci_tools.gates import Outcome
from ci_tools.gates.causes import CAUSES_FIRST, cause, cause_of, suspect
from ci_tools.gates.verdict import Gate
from tests.report.left import failed, verdict


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        ((), ""),
        (("slow_convergence",), "slow_convergence"),
        (("slow_convergence", "gradient_noise", "label_noise"), "label_noise"),
        (("divergence", "numerical_instability"), "numerical_instability"),
        (("slow_convergence", "vanishing_gradients"), "vanishing_gradients"),
        (("quality_floor", "overfitting"), "overfitting"),
        (("quality_floor", "slices_against_main"), "quality_floor"),
    ],
)
def test_cause_comes_before_its_symptoms(failed, expected):
    assert cause(failed) == expected
    assert cause(reversed(failed)) == expected or not set(failed) & set(CAUSES_FIRST)


@pytest.mark.parametrize(
    ("found", "first", "suspected"),
    [
        ((), "", ""),
        ((failed("plateau"),), "plateau", ""),
        ((failed("plateau", subject="seed-1"), failed("plateau", subject="seed-2")), "plateau", ""),
        ((failed("quality_floor", subject="a"), failed("quality_floor", subject="b")), "quality_floor", ""),
        ((failed("quality_floor"), failed("plateau")), "plateau", "plateau"),
        ((failed("quality_floor"), failed("plateau", blocks=False)), "quality_floor", ""),
        ((failed("quality_floor", blocks=False), failed("plateau", blocks=False)), "plateau", "plateau"),
        ((failed("plateau"), verdict("latency", Outcome.ERROR)), "plateau", ""),
    ],
)
def test_failure_is_suspected_only_where_it_may_have_caused_another(found, first, suspected):
    assert (cause_of(found), suspect(found)) == (first, suspected)


def test_every_gate_over_a_training_run_has_its_place_once():
    modules = ("convergence", "overfitting", "gradients", "numerics", "labels", "timing")
    gates = {
        value.name
        for name in modules
        for value in vars(importlib.import_module(f"ci_tools.gates.{name}")).values()
        if isinstance(value, Gate)
    }
    assert len(gates) == 12
    assert gates <= set(CAUSES_FIRST)
    assert len(CAUSES_FIRST) == len(set(CAUSES_FIRST))
