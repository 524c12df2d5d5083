"""The run record: what a training run leaves behind, and the narrow waist through which everything else reads it.

Writing needs torch (`Recorder`, `SeededLoader`); reading does not (`open_record`, `Record`).
"""

from typing import TYPE_CHECKING, Any

from ci_tools.record.reader import Record, open_record
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
from ci_tools.repro.order import SeededBatches, sample_seeds

if TYPE_CHECKING:
    from ci_tools.record.loader import SeededLoader
    from ci_tools.record.recorder import Recorder

__all__ = [
    "SCHEMA_VERSION",
    "Record",
    "Recorder",
    "RunMeta",
    "SeededBatches",
    "SeededLoader",
    "open_record",
    "sample_seeds",
]

_NEED_TORCH = {"Recorder": "ci_tools.record.recorder", "SeededLoader": "ci_tools.record.loader"}


def __getattr__(name: str) -> Any:
    """Import the writing half only when it is asked for, so that readers run without torch."""
    if name in _NEED_TORCH:
        import importlib

        return getattr(importlib.import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
