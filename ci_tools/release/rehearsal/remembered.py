"""Which rehearsal went well last, so that none is held again for the same model under the same rules."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ci_tools import __version__, config
from ci_tools.console import say
from ci_tools.errors import DataError
from ci_tools.files import write_atomic
from ci_tools.project import document
from ci_tools.release.client import layout
from ci_tools.release.judge import Policy, policy
from ci_tools.release.rehearsal.rehearse import FOLDER, Rehearsal, rehearse
from ci_tools.repro.manifest import file_digest

FILE = FOLDER / "last.json"
MODEL_FILE = Path("export/model.onnx")


@dataclass(frozen=True)
class Remembered:
    """A rehearsal that need not be held again."""

    told: str
    exit_code: int = 0

    def __str__(self) -> str:
        note = "  (that was before; neither model nor rules have changed: `switchback rehearse` repeats it)"
        return layout.paragraphs(f"{self.told}\n{note}")

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"exit_code": 0, "before": self.told}


def rehearse_unless_known(tell: Callable[[str], object] = say) -> Rehearsal | Remembered:
    """Rehearse, unless this model did well under these rules before.

    Raises:
        DataError, DependencyUnavailable: as `rehearse`.
    """
    wanted = key(MODEL_FILE, policy.load())
    if told := recall(FILE, wanted):
        return Remembered(told)
    done = rehearse(tell)
    if done.exit_code == 0:
        write_atomic(FILE, json.dumps({"key": wanted, "told": done.text}, indent=1) + "\n")
    return done


def key(model: Path, rules: Policy) -> str:
    """What the end of a rehearsal depends on.

    Raises:
        DataError: there is no model.
    """
    if not model.is_file():
        fix = f"add a stage that writes it ({document('docs/adopt.md#4-release')}), and run `switchback run`"
        raise DataError("no such file", where=model, rule="without a model nothing is released", fix=fix)
    return config.digest({"model": file_digest(model), "policy": rules.digest, "switchback": __version__})


def recall(file: Path, wanted: str) -> str:
    """What was said of the rehearsal of that key; empty where none is known."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["key"] == wanted:
            return str(known["told"])
    return ""
