"""Which of several failed gates names the cause, and which only its consequences."""

from collections.abc import Iterable

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
