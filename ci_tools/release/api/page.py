"""The status page: one template, filled in here at first and again for each look of the page's script.

The script puts the parts into their places as the template wrote them, escaped; charts and buttons it gets as values.
Style, scripts and uPlot are inside the page, and its policy allows nothing else but asking this service.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ci_tools.project import document
from ci_tools.release.api import words
from ci_tools.release.api.view import View
from ci_tools.report.html import page as report
from ci_tools.report.html.page import clean, embedded

PARTS = ("banner", "warnings", "evidence", "servers", "ledger")
"""What the script replaces when it has changed."""
_TICKED = re.compile(r"`([^`]+)`")
_HERE = Path(__file__).parent / "template"
_REPORT = Path(report.__file__).parent
_STYLES = (_REPORT / "vendor/uPlot.min.css", _REPORT / "template/page.css", _HERE / "status.css")
_SCRIPTS = (_REPORT / "vendor/uPlot.iife.min.js", _HERE / "plots.js", _HERE / "status.js")


def page(view: View) -> str:
    """The whole page."""
    style, scripts = _read(_STYLES), _read(_SCRIPTS)
    return _environment().get_template("status.html").render(
        view=view, words=words, style=style, scripts=scripts, data=embedded(_values(view)),
        guide=document("docs/release.md"),
        parts={name: Markup(_part(name, view)) for name in PARTS},  # noqa: S704 - the template escaped it
    )  # fmt: skip


def news(view: View) -> dict[str, Any]:
    """What the page's script asks for each second."""
    return _values(view) | {"parts": {name: _part(name, view) for name in PARTS}}


@cache
def policy() -> str:
    """The page's Content-Security-Policy."""
    return (
        f"default-src 'none'; style-src {_digest(_read(_STYLES))}; script-src {_digest(_read(_SCRIPTS))}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _values(view: View) -> dict[str, Any]:
    return {"title": view.said.title, "sentence": view.said.sentence, "refusals": view.refusals, "charts": view.charts}


def _part(name: str, view: View) -> str:
    return _environment().get_template(f"{name}.html").render(view=view, words=words)


@cache
def _environment() -> Environment:
    found = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_HERE),
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["marked"] = _marked
    return found


def _finalized(value: Any) -> Any:
    """Every text on its way into the page, without characters that hide or turn others."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _marked(text: str) -> Markup:
    """Escaped; what stands between backticks, as in a terminal, is marked as code."""
    return Markup(_TICKED.sub(r"<code>\1</code>", str(escape(clean(text)))))  # noqa: S704 - escaped


@cache
def _read(paths: tuple[Path, ...]) -> Markup:
    return Markup("\n".join(path.read_text(encoding="utf-8") for path in paths))  # noqa: S704 - our own files


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
