"""How `quality_floor` is told to people: by the metric's value and its floor, not by what lies between them.

The gate's statistic is how far the value falls short, so that as everywhere larger is worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GATE = "quality_floor"
FLOOR, BETTER = "floor", "better"
"""Keys of the gate's evidence."""
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Floor:
    """What a metric must reach."""

    floor: float
    higher_is_better: bool

    @property
    def sign(self) -> str:
        """Of a value that passes."""
        return "≥" if self.higher_is_better else "≤"

    def value(self, short: float) -> float:
        """The value that falls short by so much; law: value(0.0) == floor."""
        return self.floor - short if self.higher_is_better else self.floor + short

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """The values that fall short by `low` and by `high`, the smaller one first."""
        ends = self.value(low), self.value(high)
        return (ends[1], ends[0]) if self.higher_is_better else ends


def evidence(floor: float, higher_is_better: bool) -> dict[str, float | str]:
    """What `of` reads."""
    return {FLOOR: floor, BETTER: HIGHER if higher_is_better else LOWER}


def of(gate: str, evidence: Mapping[str, object]) -> Floor | None:
    """The floor of a verdict; None where it is another gate's, or does not tell."""
    floor, better = evidence.get(FLOOR), evidence.get(BETTER)
    if gate != GATE or not isinstance(floor, int | float) or better not in (HIGHER, LOWER):
        return None
    return Floor(float(floor), better == HIGHER)
