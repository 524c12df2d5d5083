"""One HTML file: the template filled in, with its style, scripts and data inside, and a policy that allows no more.

Everything that a run names is text: the template escapes it, the script reads it as JSON and hands it to the page as
text only. Characters that could not be seen, or would turn the reading direction, are replaced.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent
_TEXT = 4_000
"""Most characters of one text: a diagnosis is a sentence, and a name is shorter still."""
_STYLES = ("vendor/uPlot.min.css", "template/page.css")
_SCRIPTS = ("vendor/uPlot.iife.min.js", "template/charts.js", "template/maps.js", "template/page.js")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, marks of direction and of no width, halves of surrogate pairs, tags."""


def render(values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The page; `values` are for the template, `data` for its script."""
    style, scripts = Markup(_read(*_STYLES)), Markup(_read(*_SCRIPTS))  # noqa: S704 - our own files
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(scripts)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(**values, style=style, scripts=scripts, policy=policy, data=embedded(data))
    )


def embedded(data: Any) -> Markup:
    """JSON for a `script` element: no character of it can end the element or the line it stands in.

    Law: json.loads(embedded(data)) == data, for text that `clean` leaves alone.
    """
    text = json.dumps(_cleaned(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped just now


def clean(text: str, longest: int = _TEXT) -> str:
    """Text with a replacement character for each that is invisible or turns the direction, cut where it is too long."""
    shown = _INVISIBLE.sub("\ufffd", text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_HERE / "template"),
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(value: Any) -> Any:
    """Every value on its way into the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        # Long lists hold numbers only; looking at each would take longer than writing them.
        return value if value and isinstance(value[0], float | int) else [_cleaned(item) for item in value]
    return value


def _read(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
