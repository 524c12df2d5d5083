"""What a run left behind that a bundle is made of, and whether it belongs together and may be released."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ci_tools.config import Config, read_yaml
from ci_tools.errors import ConfigError, DataError, RecordError, VerdictBlocks
from ci_tools.gates import files
from ci_tools.gates.files import FOLDER, VERDICTS, Verdicts
from ci_tools.gates.run import Run, open_run
from ci_tools.gates.show import name_of
from ci_tools.record import Record
from ci_tools.record.schema import META
from ci_tools.release.bundle import folder, graph
from ci_tools.release.bundle.interface import Interface
from ci_tools.release.bundle.interface import read as read_interface
from ci_tools.release.bundle.manifest import Override

PARAMS = Path("params.yaml")
_JUDGE, _REPRODUCE = "run `switchback gate`", "run `switchback run`"


class Waiver(Config):
    """Somebody lets gates pass that keep a model from being released."""

    gates: Annotated[tuple[str, ...], Field(min_length=1)]
    """Each that blocks, by the name of the gate or of the verdict, such as `quality_floor (roc_auc)`."""
    by: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All about one model, checked to be about that one."""

    content: bytes
    """The ONNX file."""
    interface: Interface
    run: Run
    record: Record
    """Of the training that the weights come from."""
    record_digest: str
    verdicts: Verdicts
    verdicts_digest: str
    parity: Mapping[str, Any]


def collect() -> Evidence:
    """Read the files of the working directory.

    Raises:
        DataError: a file is missing or damaged, or they belong to different models.
        RecordError: the run record is missing, unfinished or not what its run left.
        ConfigError: params.yaml lists no seeds.
    """
    run = open_run(_seeds(PARAMS)[:1])  # the others were judged, and are not needed here
    content = _model(run.model)
    verdicts_file = run.root / FOLDER / VERDICTS
    verdicts = files.read(verdicts_file)
    record = run.release
    if record.meta.status != "finished":
        rule = "only finished runs are released"
        raise RecordError(f"training is {record.meta.status}", where=record.path, rule=rule, fix=_REPRODUCE)
    record.verify()
    found = Evidence(
        content=content,
        interface=read_interface(content, run.model),
        run=run,
        record=record,
        record_digest=_sha256(record.path / META),
        verdicts=verdicts,
        verdicts_digest=_sha256(verdicts_file),
        parity=run.parity,
    )
    _refuse_other_export(found)
    _refuse_unjudged(found, verdicts_file)
    _refuse_other_verdicts(found, verdicts_file)
    return found


def overrides(verdicts: Verdicts, waiver: Waiver | None) -> tuple[Override, ...]:
    """The blocking verdicts, each with who let it pass.

    Raises:
        VerdictBlocks: one does, and nobody let it pass.
        ConfigError: the waiver names what blocks nothing.
    """
    named = set(waiver.gates) if waiver else set()
    standing = [one for one in verdicts.blocking if not named & {one.gate, name_of(one)}]
    if standing:
        rule = "what blocks a merge blocks a release, too"
        fix = f"mend it, or pass --override {','.join(dict.fromkeys(one.gate for one in standing))} --by --reason"
        told = "; ".join(str(one) for one in standing[:3]) + (" …" if len(standing) > 3 else "")
        raise VerdictBlocks(
            f"{len(standing)} of the verdicts block: {told}", where=FOLDER / VERDICTS, rule=rule, fix=fix
        )
    blocking = verdicts.blocking
    for name in sorted(named - {name for one in blocking for name in (one.gate, name_of(one))}):
        rule = f"what blocks is {', '.join(map(name_of, blocking)) or 'nothing'}"
        raise ConfigError(f"{name!r} does not block", where="--override", rule=rule, fix="name what blocks only")
    if waiver is None:
        return ()
    return tuple(
        Override(gate=name_of(one), outcome=one.outcome, by=waiver.by, reason=waiver.reason) for one in blocking
    )


def _seeds(params: Path) -> list[int]:
    """Read without the repository's own schema: a process that may sign runs no code of the model's."""
    seeds = read_yaml(params).get("seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"seeds: must be a list of whole numbers, got {seeds!r}", where=params)
    return seeds


def _model(path: Path) -> bytes:
    """The exported graph, whole in one regular file."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix=_REPRODUCE) from None
    if not stat.S_ISREG(found.st_mode):
        rule = "a model is packed from the file itself, not from a link to it"
        raise DataError("is no regular file", where=path, rule=rule, fix="`dvc config cache.type reflink,copy`")
    with folder.opened(path.parent) as descriptor:
        content = folder.read(descriptor, path.name, path.parent, folder.LARGEST)
    graph.refuse_outside(content, path)
    return content


def _refuse_other_export(found: Evidence) -> None:
    """Parity and record must be about the very graph."""
    path, meta = found.run.model, found.record.meta
    if found.parity.get("sha256") != hashlib.sha256(found.content).hexdigest():
        where = path.with_name("parity.json")
        raise DataError(f"describes another graph than {path}", where=where, fix=_REPRODUCE)
    says = found.interface.metadata
    expected = {"git_commit": meta.git_commit, "params_digest": meta.params_digest, "seed": str(meta.seed)}
    for key, value in expected.items():
        if says.get(key, value) != value:
            what = f"was exported from a run with {key} {says[key][:80]!r}, the record has {value!r}"
            raise DataError(what, where=path, rule=f"its weights must be those of {found.record.path}", fix=_REPRODUCE)


def _refuse_unjudged(found: Evidence, where: Path) -> None:
    """Every acceptance test must have been run to its end, on input that was not refused."""
    verdicts = found.verdicts
    whole = "every acceptance test must have judged the model"
    if verdicts.refused:
        raise DataError("says that its input was refused", where=where, rule=whole, fix=_JUDGE)
    if verdicts.pending:
        what = f"{name_of(verdicts.pending[0])} has not ended"
        raise DataError(what, where=where, rule=whole, fix=_JUDGE)
    if verdicts.selection:
        raise DataError(f"was made with -k {verdicts.selection!r}", where=where, rule=whole, fix=_JUDGE)
    if not verdicts.verdicts:
        raise DataError("holds no verdict", where=where, rule=whole, fix=_JUDGE)


def _refuse_other_verdicts(found: Evidence, where: Path) -> None:
    """Verdicts of an earlier run say nothing about this one."""
    meta, rule = found.record.meta, "the verdicts must be about the model that is packed"
    if found.verdicts.params_digest != meta.params_digest:
        what = "was made for a run with other params"
        raise DataError(what, where=where, rule=rule, fix=_JUDGE)
    if _instant(found.verdicts.started, where) < _instant(meta.ended, found.record.path / META):
        what = f"is of {found.verdicts.started}, training ended at {meta.ended}"
        raise DataError(what, where=where, rule=rule, fix=_JUDGE)
    for verdict in found.verdicts.verdicts:
        if verdict.gate == "onnx_parity" and not _agrees(verdict.evidence, found.parity):
            raise DataError("holds the parity of another export", where=where, rule=rule, fix=_JUDGE)


def _agrees(told: Mapping[str, Any], parity: Mapping[str, Any]) -> bool:
    """Whether what a gate took from parity.json is what stands there."""
    return all(told[key] == value for key, value in parity.items() if key in told)


def _instant(text: str, where: Path) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
    except ValueError:
        raise DataError(f"{text!r} is no time", where=where, rule="ISO 8601 with time zone", fix=_JUDGE) from None
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
