"""`switchback init`: look, plan, write, and say what is next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.adopt import origin
from ci_tools.adopt.files import ACCEPTANCE, TESTS, wanted
from ci_tools.adopt.next_steps import next_steps
from ci_tools.adopt.notes import notes
from ci_tools.adopt.plan import Change, Kind, plan, write
from ci_tools.adopt.repository import Repository, look
from ci_tools.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What was done, or would be."""

    repository: Repository
    changes: Sequence[Change]
    notes: Sequence[str]
    """What a person should know of it, each with what to do."""
    dry: bool
    """Whether nothing was written."""

    @property
    def steps(self) -> list[str]:
        """What is left for a person to do."""
        return next_steps(self.repository)

    def __str__(self) -> str:
        made = [change for change in self.changes if change.kind is not Kind.KEPT]
        kept = [change.path for change in self.changes if change.kind is Kind.KEPT]
        lines = [f"training: {self.repository.training.script} ({self.repository.training.command})", ""]
        if self.dry:
            lines += ["".join(line for change in made for line in change.diff())]
        else:
            lines += [f"{change.kind:<9} {change.path}" for change in made]
        lines += [f"{Kind.KEPT:<9} {path} (yours; --force replaces it)" for path in kept]
        lines += [] if made else ["nothing to do: every file is there"]
        lines += [f"\nnote: {note}" for note in self.notes]
        numbered = [f"  {i}. {step}" for i, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, "", "next:", *numbered])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.repository
        return {
            "written": not self.dry,
            "found": {
                "script": str(found.training.script),
                "command": found.training.command,
                "framework": found.training.framework,
                "options": {option.name: option.default for option in found.training.options},
                "branch": found.branch,
                "python": found.python,
                "github": found.github,
            },
            "files": [{"path": change.path, "kind": change.kind} for change in self.changes],
            "notes": [*self.notes],
            "next": self.steps,
        }


def adopt(script: str = "", source: str = "", *, force: bool = False, dry: bool = False) -> Adopted:
    """Give the repository of the working directory the files that it lacks.

    Law: adopt() after adopt() changes nothing.

    Args:
        script: path of the training script; empty: the one that is found.
        source: what CI installs this package from, an address or a path; empty: what it was itself installed from.
        force: replace files that differ.
        dry: only say what would be done.

    Raises:
        ConfigError: not the root of a git repository, no training script, a file stands in the way, or `source` is
            nothing that pip could install from.
        DependencyUnavailable: git is not installed.
        SwitchbackError: the disk refused a write.
    """
    package = origin.named(source) if source else origin.installed()
    repository = look(script)
    _refuse_other_tests(repository.root, force)
    files = wanted(repository, package)
    changes = plan(repository.root, files, force)
    kept = {change.path for change in changes if change.kind is Kind.KEPT}
    if not dry:
        write(repository.root, changes)
    return Adopted(repository=repository, changes=changes, notes=notes(repository, package, files, kept), dry=dry)


def _refuse_other_tests(root: Path, force: bool) -> None:
    """Refuse a folder tests/model with tests of another kind: the gates would run them as verdicts on a run."""
    others = sorted(path.name for path in (root / TESTS).glob("test_*.py") if path.name not in ACCEPTANCE)
    if others and not (root / "gates.yaml").exists() and not force:
        rule = "`switchback gate` takes each test there for a verdict on a run"
        raise ConfigError(f"holds {others[0]}", where=TESTS, rule=rule, fix="move it, or say --force if it is one")
