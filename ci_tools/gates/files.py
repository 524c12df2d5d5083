"""verdicts.json and junit.xml: what the gates found, for the report and for other programs.

verdicts.json is strict JSON. A number that is not finite stands there as text, an open end of an interval as null.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ci_tools.errors import DataError
from ci_tools.files import write_atomic
from ci_tools.gates.causes import cause_of, suspect
from ci_tools.gates.show import details, headline, name_of
from ci_tools.gates.verdict import Outcome, Verdict, exit_code, worst

FOLDER = Path("gates")
VERDICTS, JUNIT = "verdicts.json", "junit.xml"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """All verdicts on one run, and what they were made from."""

    commit: str
    """Empty without git."""
    dirty: bool
    """Whether tracked files differed from the commit."""
    params_digest: str
    """As in run.json of the release; empty where that cannot be read."""
    policy_digest: str
    """Of gates.yaml with its defaults."""
    policy: str = ""
    """Revision whose policy judged; empty: that of the run's own files."""
    base: str = ""
    """Revision that was compared with."""
    policy_changes: tuple[str, ...] = ()
    """How what judges differs from the base revision's: lines `FILE: what`."""
    selection: str = ""
    """Expression that chose among the tests; empty where all ran."""
    started: str
    """UTC, ISO 8601."""
    seconds: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    """In the order in which they were made."""
    pending: tuple[Verdict, ...] = ()
    """What stands for each test that has not ended; none once all have."""
    refused: bool = False
    """Whether bad input was found only after the tests, so that the verdicts do not count."""

    @property
    def outcome(self) -> Outcome:
        """The worst of all; a test that has not ended is an error."""
        return worst(verdict.outcome for verdict in (*self.verdicts, *self.pending))

    @property
    def blocking(self) -> tuple[Verdict, ...]:
        """Verdicts that stop a merge, worst first."""
        found = [verdict for verdict in (*self.verdicts, *self.pending) if verdict.blocks]
        return tuple(sorted(found, key=lambda verdict: -verdict.outcome.rank))

    @property
    def cause(self) -> str:
        """The failed gate that most probably brought about the other failures; see `causes.cause_of`."""
        return cause_of(self.verdicts)

    @property
    def suspect(self) -> str:
        """Where to look first; empty where nothing says that one failure caused another."""
        return suspect(self.verdicts)

    @property
    def exit_code(self) -> int:
        """0 where nothing blocks; else 1 for a failure, 2 for an error, 3 for an inconclusive verdict.

        Refused input and no verdict at all are errors, whatever else was found.
        """
        worst_blocking = self.blocking[0].outcome if self.blocking else None
        return exit_code(worst_blocking, counts=bool(self.verdicts or self.pending) and not self.refused)

    def ended(self, why: str) -> "Verdicts":
        """No test that is pending will end any more; `why` is added to what stands for it."""
        lost = [replace(verdict, diagnosis=f"{verdict.diagnosis}: {why}") for verdict in self.pending]
        return replace(self, verdicts=(*self.verdicts, *lost), pending=())

    def to_json(self) -> dict[str, Any]:
        """Plain values; those that follow from others are written for readers that only look."""
        values = asdict(self)
        for verdict in (*values["verdicts"], *values["pending"]):
            verdict["interval"] = _closed(verdict["interval"])
        derived = {
            "schema_version": SCHEMA_VERSION,
            "outcome": self.outcome,
            "blocking": [name_of(verdict) for verdict in self.blocking],
            "cause": self.cause,
            "exit_code": self.exit_code,
        }
        found: dict[str, Any] = plain(derived | values)
        return found


def plain(value: Any) -> Any:
    """A value in JSON's types; a number that is not finite becomes "nan", "inf" or "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write(verdicts: Verdicts, path: Path) -> None:
    """Replace verdicts.json; law: read after write returns an equal object where all evidence is plain.

    Raises:
        SwitchbackError: the disk refused the write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(verdicts.to_json(), indent=1, allow_nan=False) + "\n")


def read(path: Path) -> Verdicts:
    """Read verdicts.json.

    Raises:
        DataError: the file is missing, is not what its name says, or of another schema version.
    """
    fix = "run `switchback gate`"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("schema_version")
        if version != SCHEMA_VERSION:
            rule = f"{SCHEMA_VERSION} is read"
            raise DataError(f"has schema version {version}", where=path, rule=rule, fix=fix)
        for verdict in (*raw["verdicts"], *raw["pending"]):
            verdict["interval"] = _open(verdict["interval"])
        found = TypeAdapter(Verdicts).validate_python(raw)
        if any(one.blocks and one.outcome is Outcome.PASSED for one in (*found.verdicts, *found.pending)):
            raise ValueError("what passed blocks nothing")
        return found
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix=fix) from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"is not a list of verdicts ({_first(error)})", where=path, fix=fix) from None


def junit(verdicts: Verdicts) -> str:
    """The same as JUnit XML, which CI systems draw: what does not block shows as skipped, not as failed."""
    cases = [*verdicts.verdicts, *verdicts.pending]
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name="gates", tests=str(len(cases)))
    suite.set("time", f"{verdicts.seconds:.3f}")
    suite.set("timestamp", verdicts.started)
    for verdict in cases:
        name, seconds = _xml(name_of(verdict)), f"{verdict.seconds:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname="gates", name=name, time=seconds)
        if verdict.outcome is Outcome.PASSED:
            continue
        kind = "skipped" if not verdict.blocks else "error" if verdict.outcome is Outcome.ERROR else "failure"
        told = ElementTree.SubElement(case, kind, message=_xml(headline(verdict)), type=str(verdict.outcome))
        told.text = _xml(details(verdict))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=False) + "\n"


def _first(error: Exception) -> str:
    """The first rule that was broken, with its key."""
    if not isinstance(error, ValidationError):
        return str(error)
    broken = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, broken['loc']))}: {broken['msg'].lower()}"


def _xml(text: str) -> str:
    """Without the characters that XML forbids."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _closed(interval: tuple[float, float] | None) -> tuple[float | None, ...] | None:
    """An interval without an open or unknown end."""
    if interval is None or any(math.isnan(end) for end in interval):
        return None
    return tuple(float(end) if math.isfinite(end) else None for end in interval)


def _open(interval: Any) -> Any:
    if interval is None:
        return None
    low, high = interval
    return (-math.inf if low is None else low, math.inf if high is None else high)
