"""What may be asked, read from a request's body: capped in size, strict in form."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from starlette.requests import Request

from ci_tools import config
from ci_tools.config import Config
from ci_tools.errors import ConfigError, DataError
from ci_tools.harmless import one_line
from ci_tools.release.api.answers import Refused
from ci_tools.release.bundle.manifest import Sha256

ORDER_BYTES = 16 * 1024
"""Largest body of an order."""
LABEL_BYTES = 8 * 1024 * 1024
"""Largest body of labels: about 100,000."""
LONGEST_ID = 200
"""Characters of a request id."""


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


class Submission(Config):
    """A bundle that should become champion."""

    bundle: Sha256
    """Digest, as the registry has it."""
    actor: Annotated[str, Field(max_length=120), AfterValidator(_printable)]
    """Who asks."""
    again: bool = False
    """Whether to begin anew where it was rolled back."""


class Order(Config):
    """What a person wants of a release."""

    actor: Annotated[str, Field(max_length=120), AfterValidator(_printable)]
    """Who asks."""
    reason: Annotated[str, Field(max_length=500), AfterValidator(_printable)]
    """Why; it stands in the ledger."""


C = TypeVar("C", bound=Config)


async def order(request: Request, model: type[C]) -> C:
    """The body as a section.

    Raises:
        Refused: 400 no JSON object, 413 too large, 422 a key breaks a rule.
    """
    raw = _object(await _body(request, ORDER_BYTES), "the body")
    try:
        return config.validate(raw, model, where="request")
    except ConfigError as error:
        raise Refused(422, error.what, error.fix or "correct it") from None


async def labels(request: Request) -> dict[str, float]:
    """True outcomes in [0, 1] by request id: one object of them, or a line `{"id": …, "label": …}` each.

    Raises:
        Refused: 400 no JSON, 413 too large, 422 no number in [0, 1], or an id twice with different labels.
    """
    body = await _body(request, LABEL_BYTES)
    by_line = "ndjson" in request.headers.get("content-type", "")
    pairs = _lines(body) if by_line else _object(body, "the body").items()
    found: dict[str, float] = {}
    try:
        for name, value in pairs:
            label = _label(name, value)
            if found.setdefault(name, label) != label:
                raise DataError(f"{one_line(name, 60)!r}: has two labels", fix="send one per request")
    except DataError as error:
        raise Refused(422, error.what, error.fix) from None
    return found


def _label(name: Any, value: Any) -> float:
    fix = "send the true outcome of the request with that id: 1 for yes, 0 for no, or a share between"
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID:
        raise DataError(
            f"request ids are texts of 1 to {LONGEST_ID} characters, got {one_line(repr(name), 60)}", fix=fix
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{one_line(name, 60)!r}: must be a number in [0, 1], got {one_line(repr(value), 60)}", fix=fix)
    return float(value)


def _lines(body: bytes) -> Iterator[tuple[Any, Any]]:
    for number, line in enumerate(body.splitlines(), 1):
        if line.strip():
            row = _object(line, f"line {number}")
            if row.keys() != {"id", "label"}:
                raise DataError(f"line {number}: must hold `id` and `label` and nothing else")
            yield row["id"], row["label"]


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(400, f"{where} is not JSON", "send one JSON object") from None
    if not isinstance(raw, dict):
        raise Refused(400, f"{where} is not a JSON object", "send one JSON object")
    return raw


async def _body(request: Request, largest: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    too_large = Refused(413, f"the body is larger than {largest:,} bytes", "send it in parts", {"connection": "close"})
    if declared.isdigit() and int(declared) > largest:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise too_large
    return bytes(body)
