"""The commands that the documents tell a reader to type.

They stand in code blocks: in a line that begins with one of PROGRAMS, or with `$ ` before it. A command that the tests
do not execute begins with an entry of NEEDED, or its beginning is named above its block, with what it needs:

    <!-- not executed, needs GitHub: switchback report --post -->
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "docs", "deploy", "examples")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md" if folder else "*.md"))
PROGRAMS = {"bash", "cat", "cd", "cp", "curl", "df", "export", "git", "ls", "make", "mkdir", "source", "sudo"}
PROGRAMS |= {"buildah", "docker", "dvc", "gh", "helm", "kubectl", "podman", "systemctl", "tensorboard", "wandb"}
PROGRAMS |= {"model_signing", "pip", "python", "python3", "python3.11", "switchback"}
NEEDED = {
    "docker": "a container engine",
    "gh": "GitHub",
    "helm": "a cluster",
    "kubectl": "a cluster",
    "make bench": "hours",
    "make test": "minutes",
    "pip": "a network",
    "python -m benchmarks": "hours",
    "python3 -m venv": "a network",
    "python3.11 -m venv": "a network",
    "/tmp/pins/bin/pip": "a network",
    "sudo": "systemd",
    "systemctl": "systemd",
    "tensorboard": "a browser",
    "wandb": "W&B",
}
"""What keeps a command from being executed, by its beginning."""
NEEDS = {*NEEDED.values(), "a repository to adopt"}
OTHER_LANGUAGES = ("python", "yaml", "json", "toml", "text", "diff", "ini")
COMMENT = re.compile(r"\s+# .*$")
MARKER = re.compile(r"<!-- not executed, needs (?P<needs>.+?): (?P<command>.+?) -->")


class Command(NamedTuple):
    """One command line of a document."""

    line: int
    text: str
    """Without prompt and comment."""
    needs: str
    """What keeps it from being executed by a test; empty where nothing does."""


def is_open(text: str) -> bool:
    """Whether a quotation goes on in the next line; only a command's can."""
    if text.partition(" ")[0] not in PROGRAMS:
        return False
    try:
        shlex.split(text)
    except ValueError:
        return True
    return False


def commands(path: Path) -> list[Command]:
    """Every command of a document, in its order."""
    needed = NEEDED | {begin: needs for needs, begin in markers(path)}
    found = []
    for token in MarkdownIt().parse(path.read_text()):
        if token.type == "code_block" or (token.type == "fence" and token.info not in OTHER_LANGUAGES):
            first = token.map[0] + (1 if token.type == "code_block" else 2)
            lines = iter(enumerate(token.content.replace("\\\n", " ").splitlines(), first))
            for line, text in lines:
                typed = COMMENT.sub("", text.removeprefix("$ ")).strip()
                while is_open(typed):
                    typed += "\n" + next(lines)[1]
                if typed and Path(typed.split()[0]).name in PROGRAMS:
                    needs = [why for begin, why in needed.items() if f"{typed} ".startswith(f"{begin} ")]
                    found.append(Command(line, typed, needs[-1] if needs else ""))
    return found


def markers(path: Path) -> list[tuple[str, str]]:
    """(needs, beginning of the command) of every marker."""
    return [(found["needs"], found["command"]) for found in MARKER.finditer(path.read_text())]
