"""Numbers out of JSON that other programs wrote."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from ci_tools.errors import DataError

FIX = "run `switchback reproduce`"
"""Of a damaged file of the evaluation."""


def mapping(value: Any, path: Path) -> Mapping[str, Any]:
    """The value as it is.

    Raises:
        DataError: it is no object.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"holds {json.dumps(value)[:60]} in place of an object", where=path, fix=FIX)
    return value


def numbers(value: Any, path: Path) -> dict[str, float]:
    """The entries that are finite numbers.

    Raises:
        DataError: it is no object.
    """
    return {str(key): float(one) for key, one in mapping(value, path).items() if is_number(one)}


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
