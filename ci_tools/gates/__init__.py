"""A run in, verdicts out. Gates are plain functions of what a run left behind; none of them needs torch.

To add one, decorate a function that returns a `Reading` with `gate` and call it from a test; see docs/gates.md.
"""

from typing import TYPE_CHECKING, Any

from ci_tools.gates.reasons import Reason
from ci_tools.gates.verdict import Gate, Measurement, Outcome, Reading, Verdict, gate, unmeasured, worst

if TYPE_CHECKING:
    from ci_tools.gates.run import Baseline, Run
    from ci_tools.gates.training import Training

__all__ = [
    "Baseline",
    "Gate",
    "Measurement",
    "Outcome",
    "Reading",
    "Reason",
    "Run",
    "Training",
    "Verdict",
    "gate",
    "unmeasured",
    "worst",
]

_READ_ARRAYS = {"Baseline": "ci_tools.gates.run", "Run": "ci_tools.gates.run", "Training": "ci_tools.gates.training"}


def __getattr__(name: str) -> Any:
    """Import what reads arrays only when it is asked for: pytest imports this package in every project it tests."""
    if name in _READ_ARRAYS:
        import importlib

        return getattr(importlib.import_module(_READ_ARRAYS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
