"""Text for a terminal of any width: columns where they fit, else a paragraph per row."""

import shutil
import textwrap
from collections.abc import Sequence

from ci_tools.harmless import one_line

_GAP = "  "
_LONGEST = 1000
"""Characters of a sentence."""
_CELL = 300


def width() -> int:
    """Columns of the terminal; a log has all it needs."""
    return max(shutil.get_terminal_size(fallback=(_LONGEST, 24)).columns, 40)


def folded(text: str) -> str:
    """One printable sentence, its further lines set in behind its own indentation."""
    whole = one_line(text, _LONGEST)
    start = whole[: len(whole) - len(whole.lstrip())]
    return _fold(whole.strip(), start, f"{start}  ")


def paragraphs(text: str) -> str:
    """Each line as `folded`."""
    return "\n".join(map(folded, text.splitlines()))


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values."""
    return "\n".join(_columns([[one_line(cell, _CELL) for cell in row] for row in rows]))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """A heading and rows of equally many cells; too wide for the terminal, each row is told under its first cell."""
    clean = [[one_line(cell, _CELL) for cell in row] for row in rows]
    lines = _columns(clean)
    if max(map(len, lines)) <= width():
        return "\n".join(lines)
    return "\n".join(_told(clean[0], row) for row in clean[1:])


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [_GAP.join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def _told(names: Sequence[str], row: Sequence[str]) -> str:
    told = [f"{name}: {cell}" for name, cell in zip(names[1:], row[1:], strict=True) if cell]
    return "\n".join([row[0], _fold("; ".join(told), "  ", "  ")])


def _fold(text: str, first: str, further: str) -> str:
    return textwrap.fill(
        text, width(), initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
