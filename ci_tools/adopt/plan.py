"""What `switchback init` would do to the files of a repository, shown as a diff, and done."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ci_tools.errors import ConfigError
from ci_tools.files import write_atomic

EXTENDED = ("params.yaml", ".gitignore", ".dvcignore")
"""Files that only get lines that they lack, so that nothing of them is lost."""


class Kind(StrEnum):
    """What becomes of a file."""

    NEW = "new"
    EXTENDED = "extended"
    REPLACED = "replaced"
    KEPT = "kept"
    """It is there, and says something else; only `--force` replaces it."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One file that is not as it should be."""

    path: str
    kind: Kind
    before: str
    after: str

    def diff(self) -> Iterator[str]:
        """Lines of a unified diff, as git takes it."""
        old = "/dev/null" if self.kind is Kind.NEW else f"a/{self.path}"
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        for line in difflib.unified_diff(before, after, old, f"b/{self.path}"):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def plan(root: Path, wanted: Mapping[str, str], force: bool = False) -> list[Change]:
    """The files that differ from what is wanted, in its order.

    Raises:
        ConfigError: a file stands where a folder is needed, or the other way round, or a path leads out of the root.
    """
    changes = []
    for name, after in wanted.items():
        path = root / name
        _refuse_place(root, path)
        before = _text(path)
        if before != after:
            extended = Kind.EXTENDED if name in EXTENDED else Kind.REPLACED if force else Kind.KEPT
            kind = Kind.NEW if not path.exists() else extended
            changes.append(Change(path=name, kind=kind, before=before, after=after))
    return changes


def write(root: Path, changes: Sequence[Change]) -> None:
    """Make every change but those of files that are kept.

    Raises:
        SwitchbackError: the disk refused a write; what was written before it stays, and the same command goes on.
    """
    for change in changes:
        if change.kind is not Kind.KEPT:
            path = root / change.path
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, change.after)


def text_of(path: Path) -> str:
    """What a file that is to be extended holds, its line ends as they are; empty where there is none.

    Raises:
        ConfigError: it is no text.
    """
    try:
        return path.read_bytes().decode("utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        fix = "save it as UTF-8"
        raise ConfigError(f"byte {error.start} is no UTF-8", where=path.name, rule="lines are added", fix=fix) from None


def extended(before: str, lines: Iterable[str]) -> str:
    """A text with lines at its end, which end as its own do."""
    end = "\r\n" if "\r\n" in before else "\n"
    added = "".join(f"{line}{end}" for line in lines)
    return before + (end if added and before and not before.endswith("\n") else "") + added


def _text(path: Path) -> str:
    """Empty where there is no file; bytes that are no text differ from every template."""
    return path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""


def _refuse_place(root: Path, path: Path) -> None:
    where = path.relative_to(root)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError("leads out of the repository", where=where, fix="remove that symbolic link")
    if path.is_dir():
        raise ConfigError("is a folder, where a file is needed", where=where, fix="move it away")
    folders = (folder for folder in where.parents if os.path.lexists(root / folder))
    blocked = next((folder for folder in folders if not (root / folder).is_dir()), None)
    if blocked:
        raise ConfigError("is a file, where a folder is needed", where=blocked, fix="move it away")
