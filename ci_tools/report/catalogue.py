"""What our own code says about each gate: the sentences of a comment come from here, never from results.json."""

import importlib
import inspect
from functools import cache
from typing import NamedTuple

from ci_tools.gates.verdict import Gate

_MODULES = (
    "artifact",
    "convergence",
    "data",
    "gradients",
    "labels",
    "leakage",
    "numerics",
    "overfitting",
    "quality",
    "reproducibility",
    "timing",
)
"""Of ci_tools.gates, those that hold gates."""


class Entry(NamedTuple):
    """One gate in words."""

    meaning: str
    """What its statistic is, in a sentence; ends in a full stop."""
    unit: str
    """Of the statistic."""
    remedy: str
    """What to try where it fails."""


@cache
def entries() -> dict[str, Entry]:
    """Every gate that comes with Switchback, by name."""
    modules = [importlib.import_module(f"ci_tools.gates.{module}") for module in _MODULES]
    found = (value for module in modules for value in vars(module).values())
    return {gate.name: _entry(gate) for gate in found if isinstance(gate, Gate)}


def _entry(gate: Gate) -> Entry:
    paragraph = " ".join((inspect.getdoc(gate) or "").partition("\n\n")[0].split())
    meaning = paragraph.partition("; ")[0].partition(". ")[0].rstrip(".") + "."
    return Entry(meaning, gate.unit, gate.remedy)
