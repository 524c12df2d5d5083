"""results.json: all that may cross from the job that ran a pull request's code to the one that may comment.

Numbers, enums and names; no sentence. A `Name` (branch, gate, layer, column, slice, metric, library) comes from the
pull request and may be chosen to do harm: whoever shows one must neutralise it, as `markdown.code` does.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ci_tools import config
from ci_tools.config import Config
from ci_tools.errors import ConfigError, DataError
from ci_tools.files import write_atomic
from ci_tools.gates.causes import cause_of, suspect
from ci_tools.gates.reasons import Reason
from ci_tools.gates.verdict import Outcome, exit_code, worst
from ci_tools.harmless import one_line
from ci_tools.walk import Outcome as StageOutcome

SCHEMA_VERSION = 1
LARGEST = 256 * 1024
"""Bytes of results.json."""
LONGEST_NAME = 120
"""Characters."""
CURVE_POINTS = 40
FEWEST = 100
"""Verdicts that always have room."""
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""What may begin an HTML tag; `amount<100` and `>50K` are honest names."""
_COMMAND = "##["
"""What GitHub's runner takes for a command, wherever it stands in a line of a log."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Printable by Python's account, yet not to be seen: of Unicode's Default_Ignorable_Code_Point, and Braille's blank.

https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
"""
_MOST_MARKS = 2
"""Combining marks on one character; a pile of them reaches into the lines above and below."""


def _checked(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} characters")
    if text != "".join(_visible(text)):
        raise ValueError("a name has printable characters only, which can be seen")
    if _TAG.search(text):
        raise ValueError("a name holds no HTML")
    if _COMMAND in text:
        raise ValueError("a name holds no command of a workflow")
    return text


def _visible(text: str) -> Iterator[str]:
    """Without control, bidirectional and invisible characters, lone surrogates, and piles of combining marks."""
    marks = 0
    for c in text:
        marks = marks + 1 if unicodedata.category(c) in ("Mn", "Me") else 0
        yield c if c.isprintable() and not _UNSEEN.match(c) and marks <= _MOST_MARKS else "\ufffd"


def name(text: object) -> str:
    """Any text as a `Name`: what is not allowed is replaced, what is too long is cut.

    Law: a valid name stays as it is.
    """
    shown = _TAG.sub("\u2039", "".join(_visible(str(text)))).replace(_COMMAND, "##\u27e6")
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def finite(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        return None
    return number if math.isfinite(number) else None


Name = Annotated[str, AfterValidator(_checked)]
"""At most 120 printable characters that open no HTML tag; may be empty where there is nothing to name."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
"""SHA-256, hex; empty where unknown."""
Commit = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")]
"""Of git; empty without it."""
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Instant = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$")]
"""UTC, ISO 8601, to the second."""
Rung = Literal[
    "", "none", "params", "code", "data", "fingerprint", "initial weights",
    "batch", "loss", "gradient", "update", "probe", "evaluation", "length",
]  # fmt: skip
"""As `ci_tools.repro.compare` names what differs first; `none` where nothing does, empty where nobody knows."""
Interval = tuple[float | None, float | None]
"""An open end is None."""
Basis = Literal["default", "uncalibrated", "gates.yaml", "calibrated", "none"]
"""Where a limit comes from; `uncalibrated` is a default that a calibration would replace."""


class Fact(Config):
    """One piece of a verdict's evidence."""

    name: Name
    value: float | Name


class Judged(Config):
    """One verdict."""

    gate: Name
    subject: Name
    outcome: Outcome
    blocks: bool
    """Whether this outcome stops a merge."""
    statistic: float | None
    interval: Interval | None
    threshold: float | None
    basis: Basis
    """Where the threshold comes from."""
    facts: Annotated[tuple[Fact, ...], Field(max_length=12)] = ()
    seconds: Seconds = 0.0
    reason: Reason | None = None
    """Why not all could be measured; None where that is not so, or no code says it."""

    @model_validator(mode="after")
    def _pass_blocks_nothing(self) -> Self:
        if self.blocks and self.outcome is Outcome.PASSED:
            raise ValueError("what passed blocks nothing")
        return self


class Metric(Config):
    """One quality metric, and what changed in it against main."""

    metric: Name
    higher_is_better: bool
    here: float | None
    """Mean over seeds."""
    sd: float | None = None
    """Over seeds; None with one seed."""
    seeds: Count = 0
    """Per arm where compared."""
    main: float | None = None
    interval: Interval | None = None
    """Of the change, here minus main, at `confidence`."""
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    margin: float | None = None
    """Loss that is tolerated."""
    outcome: Outcome | None = None
    """Of the comparison; None where none was asked for."""

    @property
    def change(self) -> float | None:
        """Here minus main, in the metric's unit."""
        return None if self.here is None or self.main is None else self.here - self.main


class Slice(Config):
    """A part of the test rows."""

    slice: Name
    metric: Name
    rows: Count | None = None
    here: float | None = None
    """Mean over seeds."""
    change: float | None = None
    """Against main; None where not compared."""
    interval: Interval | None = None
    """Of the change."""
    failed: bool = False


class Early(Config):
    """A seed whose rows end before the curve does."""

    seed: Seed
    step: Count
    """Its last."""


class Curve(Config):
    """A quantity over training, thinned to few points."""

    of: Literal["loss", "metric"]
    name: Name
    split: Name
    seeds: Count
    """That can be read."""
    early: Annotated[tuple[Early, ...], Field(max_length=100)] = ()
    """Those that end early: the points behind are of the others."""
    step: Annotated[tuple[Count, ...], Field(max_length=CURVE_POINTS)]
    mean: Annotated[tuple[float | None, ...], Field(max_length=CURVE_POINTS)]
    """Over the seeds that got so far; None where one of them has no finite value, or none got there."""
    low: Annotated[tuple[float | None, ...], Field(max_length=CURVE_POINTS)]
    high: Annotated[tuple[float | None, ...], Field(max_length=CURVE_POINTS)]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if len({len(self.step), len(self.mean), len(self.low), len(self.high)}) != 1:
            raise ValueError("a curve has as many values as steps")
        return self


class SeedRun(Config):
    """One run record."""

    seed: Seed
    status: Literal["running", "finished", "failed", "crashed", "preempted", "replayed", "unreadable"]
    steps: Count = 0
    total_steps: Count = 0
    train_seconds: Seconds = 0.0
    gpus: Count = 0
    joules: Annotated[float, Field(ge=0, le=1e18)] | None = None
    """Energy that its GPUs took while it trained; None where nothing measured it."""
    recoveries: Count = 0
    resumes: Count = 0


class Stage(Config):
    """What became of one stage of the pipeline."""

    stage: Name
    outcome: StageOutcome
    seconds: Seconds
    ran_seconds: Seconds | None
    """Of its last real run; None where unknown."""


class Lock(Config):
    """Whether the dvc.lock that the commit carries is the one that this run made."""

    state: Literal["verified", "differs", "absent"]
    rung: Rung = ""
    """Where the training of the commit's lock first differs from this one."""
    step: Count | None = None
    layer: Name = ""


PolicyValue = float | bool | Literal["passes", "blocks", "roll_back", "hold"] | None
"""None stands for unset."""


class PolicyChange(Config):
    """One value that judges and differs from the base revision's."""

    file: Literal["gates.yaml", "calibration.json", "release.yaml"] = "gates.yaml"
    key: Name
    old: PolicyValue = None
    new: PolicyValue = None


class PolicyFile(Config):
    """One file that judges and differs from the base revision's: a policy, a calibration, an acceptance test."""

    file: Name
    became: Literal["new", "removed", "changed"]


class Results(Config):
    """results.json, whole."""

    schema_version: Literal[1] = 1
    created: Instant
    pull_request: Count | None = None
    """A claim: accepted only if that pull request's head is `head_sha`."""
    head_sha: Commit
    branch: Name = ""
    commit: Commit
    """That was checked out."""
    dirty: bool
    """Whether tracked files differed from the commit."""
    base: Name
    """Revision that was compared with; empty: none."""
    policy: Name = ""
    """Revision whose policy judged; empty: that of the run's own files."""
    lock: Lock | None = None
    """None where nobody asked."""
    selected: bool
    """Whether only some of the acceptance tests were asked for."""
    refused: bool
    """Whether bad input was found after the tests, so that the verdicts do not count."""
    gate_seconds: Seconds
    pipeline_seconds: Seconds | None = None
    verdicts: Annotated[tuple[Judged, ...], Field(max_length=300)]
    metrics: Annotated[tuple[Metric, ...], Field(max_length=30)] = ()
    slices: Annotated[tuple[Slice, ...], Field(max_length=20)] = ()
    curves: Annotated[tuple[Curve, ...], Field(max_length=4)] = ()
    runs: Annotated[tuple[SeedRun, ...], Field(max_length=100)] = ()
    stages: Annotated[tuple[Stage, ...], Field(max_length=200)] = ()
    policy_changes: Annotated[tuple[PolicyChange, ...], Field(max_length=100)] = ()
    policy_files: Annotated[tuple[PolicyFile, ...], Field(max_length=100)] = ()
    policy_unreadable: bool = False
    """Whether a difference of the policy is not told in full."""
    fingerprint: Annotated[dict[Name, Name], Field(max_length=40, default_factory=dict)]
    """Of the release's run."""
    params_digest: Digest = ""
    policy_digest: Digest = ""
    code_digest: Digest = ""
    left_out: Count = 0
    """Entries that had no room in this file."""

    @property
    def outcome(self) -> Outcome:
        """The worst of all."""
        return worst(one.outcome for one in self.verdicts)

    @property
    def blocking(self) -> tuple[Judged, ...]:
        """Verdicts that stop a merge, worst first."""
        return tuple(sorted((one for one in self.verdicts if one.blocks), key=lambda one: -one.outcome.rank))

    @property
    def exit_code(self) -> int:
        """As that of `switchback gate`: 0 nothing stops a merge, 1 a failure, 2 an error, 3 an inconclusive verdict."""
        worst_blocking = self.blocking[0].outcome if self.blocking else None
        return exit_code(worst_blocking, counts=bool(self.verdicts) and not self.refused)

    @property
    def cause(self) -> str:
        """The failed gate that most probably brought about the other failures; see `causes.cause_of`."""
        return cause_of(self.verdicts)

    @property
    def suspect(self) -> str:
        """Where to look first; empty where nothing says that one failure caused another."""
        return suspect(self.verdicts)


def read(path: Path) -> Results:
    """Read results.json as what it is: a file that a stranger may have written.

    Raises:
        DataError: missing, larger than 256 KiB, no strict JSON (NaN and repeated keys are refused, too), of another
            schema version, or with a key or value that the schema does not know; one sentence that says which.
    """
    fix = "take the file that `switchback report` wrote, of this version"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError("is too large", where=path, rule=f"{LARGEST // 1024} KiB at most", fix=fix)
        raw = json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repetition)
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="run `switchback report`") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not strict JSON ({error})", where=path, fix=fix) from None
    if not isinstance(raw, dict):
        raise DataError("must hold an object", where=path, fix=fix)
    version = raw.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise DataError("is of another schema version", where=path, rule=f"{SCHEMA_VERSION} is read", fix=fix)
    try:
        return config.validate(raw, Results, where=path)
    except ConfigError as error:
        raise DataError(one_line(error.what), where=path, rule=error.rule, fix=fix) from None


def write(results: Results, path: Path) -> Results:
    """Replace results.json; law: read after write returns what write returned.

    Returns:
        What was written: where it would be too large, evidence of verdicts goes first, then slices, stages and the
        verdicts that are no worse than the first hundred; `left_out` says how many entries.

    Raises:
        SwitchbackError: the disk refused the write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for smaller in (_whole, _without_evidence_of_passes, _without_evidence, _without_parts):
        fitting = smaller(results)
        text = fitting.model_dump_json(indent=1) + "\n"
        if len(text.encode()) <= LARGEST:
            break
    write_atomic(path, text)
    return fitting


def _whole(results: Results) -> Results:
    return results


def _without_evidence_of_passes(results: Results) -> Results:
    return _evidence_of(results, [one for one in results.verdicts if one.outcome is not Outcome.PASSED])


def _without_evidence(results: Results) -> Results:
    return _evidence_of(results, [])


def _evidence_of(results: Results, keep: Sequence[Judged]) -> Results:
    verdicts = tuple(one if one in keep else one.model_copy(update={"facts": ()}) for one in results.verdicts)
    lost = sum(len(one.facts) for one in results.verdicts) - sum(len(one.facts) for one in verdicts)
    return results.model_copy(update={"verdicts": verdicts, "left_out": results.left_out + lost})


def _without_parts(results: Results) -> Results:
    bare = _without_evidence(results)
    worst_first = sorted(bare.verdicts, key=lambda one: (not one.blocks, -one.outcome.rank))
    lost = sum(
        map(
            len,
            (bare.slices, bare.stages, bare.fingerprint, bare.policy_changes, bare.policy_files, worst_first[FEWEST:]),
        )
    )
    parts = {
        "slices": (),
        "stages": (),
        "fingerprint": {},
        "policy_changes": (),
        "policy_files": (),
        "verdicts": tuple(worst_first[:FEWEST]),
    }
    unreadable = bare.policy_unreadable or bool(bare.policy_changes or bare.policy_files)
    return bare.model_copy(update=parts | {"policy_unreadable": unreadable, "left_out": bare.left_out + lost})


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError("a key stands twice")
    return dict(pairs)
