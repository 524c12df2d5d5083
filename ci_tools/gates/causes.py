"""Which of several failed gates names the cause, and which only its consequences."""

from collections.abc import Iterable
from typing import Protocol

from ci_tools.gates.verdict import Outcome

CAUSES_FIRST = (
    # What was put in, or taken out, was wrong: nothing that follows can be trusted.
    "checkpoint_corruption",
    "no_pickle",
    "schema_changed",
    "data_leakage",
    # Arithmetic comes before optimisation. What begins behind a divergence the gates themselves leave out.
    "numerical_instability",
    # A signal that does not arrive, or is wrong, makes training slow and noisy.
    "vanishing_gradients",
    "label_noise",
    "gradient_noise",
    "divergence",
    # What is left when the gradients were sound.
    "overfitting",
    "slow_convergence",
    "stragglers",
    # Health of single layers goes with many of the above, and explains none of them.
    "dead_units",
    "gradient_spikes",
    "update_ratio",
    "plateau",
)
"""Gates, causes before their symptoms."""


def cause(failed: Iterable[str]) -> str:
    """The failed gate that most probably caused the others; empty where none failed.

    Gates that are not listed measure outcomes, quality for instance, and come last, in the order they were given.
    """
    names = list(failed)
    return next((name for name in CAUSES_FIRST if name in names), names[0] if names else "")


class Judged(Protocol):
    """What counts of a verdict."""

    @property
    def gate(self) -> str:
        """Its name."""

    @property
    def outcome(self) -> Outcome:
        """What was found."""

    @property
    def blocks(self) -> bool:
        """Whether that stops a merge."""


def cause_of(verdicts: Iterable[Judged]) -> str:
    """The cause among those that failed, of those that block where any does; empty where none failed."""
    failed = [one for one in verdicts if one.outcome is Outcome.FAILED]
    return cause(one.gate for one in [one for one in failed if one.blocks] or failed)


def suspect(verdicts: Iterable[Judged]) -> str:
    """The same where it may really have caused other failures; empty where only outcomes failed, or a single gate."""
    found = list(verdicts)
    first = cause_of(found)
    others = any(one.outcome is Outcome.FAILED and one.gate != first for one in found)
    return first if others and first in CAUSES_FIRST else ""
