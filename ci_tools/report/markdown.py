"""Markdown for GitHub, from parts that may be hostile.

Two ways to show text that a pull request chose, each without markup, mention, link, issue reference or command:
`code` for names, in comments; `prose` for sentences, in step summaries. What is written here by hand goes in as it is.
"""

import re
from collections.abc import Iterable, Sequence

_LOOKALIKE = str.maketrans({"|": "\u00a6", "`": "\u02cb"})
"""Inside code a pipe ends a table's cell and a backtick the code; parsers differ on how to escape them there."""
_JOINER = "\u2060"
"""Has no width and no meaning; GitHub's mentions, references and links do not reach across it."""
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_REFERENCES = re.compile(r"[@#:]|(?<=\bgh)-|(?<=\bwww)\.", re.IGNORECASE)
"""Mentions, issues, addresses, names of emoji."""
_COMMITS = re.compile(r"\b[0-9a-f]{7,64}\b", re.IGNORECASE)
_SHORTER_THAN_A_COMMIT = 6


def code(text: str) -> str:
    """A name as code: nothing in it is interpreted. A pipe and a backtick are shown by characters that look like them.

    Args:
        text: of one line, as every `results.Name` is.
    """
    shown = text.translate(_LOOKALIKE)
    return f"` {shown} `" if shown[:1] == " " == shown[-1:] and shown.strip() else f"`{shown}`" if shown else ""


def prose(text: str, longest: int = 1000) -> str:
    """A sentence as it reads, in one line: every sign is escaped, and what GitHub would link or notify is broken up."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    broken = _COMMITS.sub(lambda found: _in_parts(found[0]), _REFERENCES.sub(lambda found: found[0] + _JOINER, line))
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", broken)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table; cells are ready Markdown of one line. Columns in `right` are aligned to the right."""
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def details(summary: str, body: str, opened: bool = False) -> str:
    """A part that unfolds. `summary` is HTML: our own words and numbers, never a name."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>\n\n{body}\n\n</details>"


def link(words: str, url: str) -> str:
    """A link; `url` must have passed `links.checked`."""
    return f"[{words}](<{url}>)"


def units(text: str) -> int:
    """Length as the strictest counter has it: signs beyond Unicode's first plane count twice."""
    return len(text.encode("utf-16-le")) // 2


def _in_parts(commit: str) -> str:
    step = _SHORTER_THAN_A_COMMIT
    return _JOINER.join(commit[i : i + step] for i in range(0, len(commit), step))
