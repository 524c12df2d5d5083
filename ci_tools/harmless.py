"""Text that others chose, for a log: GitHub's runner takes some of what it reads there for commands of the workflow.

Of both forms that it knows, `::name::` counts at the start of a line and `##[name]` anywhere in it.
"""

import re

_OLD_FORM = "##["
_NEW_FORM = re.compile(r"((?:^|[\r\n])\s*):(?=:)")


def in_log(text: str) -> str:
    """The text as it reads, and no command in it."""
    return _NEW_FORM.sub(r"\1: ", text.replace(_OLD_FORM, "## ["))


def in_json(text: str) -> str:
    r"""A JSON document of the same values, and no command in it: inside of strings `\u005b` is a bracket, too."""
    return text.replace(_OLD_FORM, "##\\u005b")


def one_line(text: str, longest: int = 300) -> str:
    """One printable line of the text, cut where it is too long, and no command in it."""
    shown = in_log("".join(c if c.isprintable() else "\ufffd" for c in text))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
