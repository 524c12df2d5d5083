"""A run in, verdicts out. Gates are plain functions of what a run left behind; none of them needs torch.

To add one, decorate a function that returns a `Reading` with `gate` and call it from a test; see docs/gates.md.
"""

from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.training import Training
from ci_tools.gates.verdict import Gate, Measurement, Outcome, Reading, Verdict, gate, unmeasured, worst

__all__ = [
    "Baseline",
    "Gate",
    "Measurement",
    "Outcome",
    "Reading",
    "Run",
    "Training",
    "Verdict",
    "gate",
    "unmeasured",
    "worst",
]
