"""Numbers out of JSON that other programs wrote."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from ci_tools.errors import DataError

FIX = "run `switchback reproduce`"
"""Of a damaged file of the evaluation."""
_QUOTED = 60
"""Characters of a value in an error."""


def mapping(value: Any, path: Path) -> Mapping[str, Any]:
    """The value as it is.

    Raises:
        DataError: it is no object.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"holds {in_a_line(value, plain=True)[:_QUOTED]} in place of an object", where=path, fix=FIX)
    return value


def numbers(value: Any, path: Path) -> dict[str, float]:
    """The entries that are finite numbers.

    Raises:
        DataError: it is no object.
    """
    return {str(key): float(one) for key, one in mapping(value, path).items() if is_number(one)}


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON sets whole numbers no limit
        return False


def in_a_line(value: Any, *, plain: bool = False) -> str:
    """A value as JSON, `plain` in ASCII; … where it is nested deeper than can be written."""
    try:
        return json.dumps(value, ensure_ascii=plain, default=str)
    except RecursionError:
        return "…"
