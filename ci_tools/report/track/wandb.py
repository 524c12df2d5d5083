"""What Weights & Biases is told: a run of job type `train` per record, and one of job type `gate` per set of verdicts.

The runs' ids follow from the record and from the verdicts, so that telling them again continues what W&B has and adds
nothing twice. What leaves the machine is the record without its checkpoints, the released weights, the exported model,
the verdicts and the HTML report. With the record go the id, the label, the score and the slice columns of each test row
(scores.parquet); of the rest of the data set only the SHA-256 of its files. No source code, no name of the machine.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ci_tools.config import leaves
from ci_tools.errors import RecordError
from ci_tools.gates import files as verdict_files
from ci_tools.gates.files import Verdicts
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record import schema
from ci_tools.record.reader import Record, open_record
from ci_tools.record.schema import RunMeta
from ci_tools.report.track import kept, labels
from ci_tools.report.track.clock import seconds
from ci_tools.report.track.follow import Rows
from ci_tools.report.track.history import History, Point
from ci_tools.report.track.kept import Entry
from ci_tools.report.track.names import plain
from ci_tools.report.track.session import Client, Session

VERDICTS = verdict_files.FOLDER / verdict_files.VERDICTS
PAGE = Path("report/index.html")
MODEL, PARITY, METRICS = Path("export/model.onnx"), Path("export/parity.json"), Path("evaluation/metrics.json")
GATE = "gate"
"""Name of the run that holds the verdicts."""
COLUMNS = (
    *("gate", "subject", "outcome", "blocks", "statistic", "low", "high", "threshold", "unit", "basis"),
    *("diagnosis", "remedy", "evidence"),
)
"""Of the table of verdicts."""


def tell_record(client: Client, name: str, path: Path, looks: Iterator[Rows], root: Path = Path()) -> Entry:
    """Tell one record: each step, the histograms of its probes, how it ended, and its artifacts.

    Args:
        client: of W&B.
        name: of the run, for people.
        path: folder of the record.
        looks: what `follow` yields for it.
        root: of the repository.

    Raises:
        RecordError: as `follow`.
        DependencyUnavailable: W&B does not take the data, and it cannot be kept here either.
    """
    rows = first = next(looks)

    def known() -> Entry | None:
        return kept.known(name, _state(client, first.meta), root) if first.ended else None

    session = _open(client, known, id=first.meta.id, name=name, job_type="train", **_about(first.meta))
    if isinstance(session, Entry):
        return session
    history = History(first.meta)
    with session:
        while True:
            session.log_plain(history.add(rows))
            if rows.ended:
                break
            rows = next(looks)
        _describe(session, name, rows.meta, open_record(path))
        failed = rows.meta.status in ("failed", "crashed")
        return _finish(session, name, rows.meta.id, _state(client, rows.meta), root, failed=failed)


def tell_verdicts(client: Client, records: Sequence[Path], root: Path = Path()) -> Entry | None:
    """Tell the verdicts on these records: their table, the HTML report, the exported model, and what they rest on.

    None where there are no verdicts, or where they are on other parameters than the first record's.

    Raises:
        DataError: the verdicts are damaged.
        RecordError: a record is.
        DependencyUnavailable: as `tell_record`.
    """
    if not (root / VERDICTS).exists():
        return None
    verdicts, opened = verdict_files.read(root / VERDICTS), [open_record(path) for path in records]
    if verdicts.params_digest != opened[0].meta.params_digest:
        return None
    digest = hashlib.sha256((root / VERDICTS).read_bytes()).hexdigest()

    def state() -> str:
        return _state(client, *(record.meta for record in opened), more=digest)

    id_, about = f"gate-{digest[:12]}", _about(opened[0].meta)
    session = _open(client, lambda: kept.known(GATE, state(), root), id=id_, name=GATE, job_type="gate", **about)
    if isinstance(session, Entry):
        return session
    with session:
        _judge(session, verdicts, root)
        for path, record in zip(records, opened, strict=True):
            session.artifact(_record_name(path.resolve().name), "record", _evidence(record), used=True)
        return _finish(session, GATE, id_, state(), root, failed=verdicts.exit_code != 0)


def _describe(session: Session, name: str, meta: RunMeta, record: Record) -> None:
    """How a run ended, what it took in, and what it left behind."""
    results = _results(record)
    session.describe(labels.tags(meta), labels.outcome(meta) | results)
    dataset = json.dumps(meta.data, indent=1, sort_keys=True) + "\n"
    session.artifact("dataset", "dataset", {"sha256.json": dataset}, used=True)
    session.artifact(_record_name(name), "record", _evidence(record))
    if weights := _weights(record):
        about = {"record": meta.id, **results}
        session.artifact(labels.artifact_name("model", name), "model", {weights.name: weights}, metadata=about)


def _judge(session: Session, verdicts: Verdicts, root: Path) -> None:
    """The verdicts, the page about them, and the model that they are on."""
    values = {"gates/verdicts": session.table(COLUMNS, [_row(verdict) for verdict in verdicts.verdicts])}
    if (root / PAGE).is_file():
        values["report"] = session.page(root / PAGE)
    session.log(Point(0, seconds(verdicts.started), values))
    outcomes = [verdict.outcome for verdict in verdicts.verdicts]
    counts = {f"gates/{outcome}": outcomes.count(outcome) for outcome in Outcome}
    session.describe([verdicts.outcome], counts | {"gates/outcome": str(verdicts.outcome)} | _evaluation(root))
    session.artifact("verdicts", "verdicts", {VERDICTS.name: root / VERDICTS})
    exported = {path.name: root / path for path in (MODEL, PARITY) if (root / path).is_file()}
    if MODEL.name in exported:
        session.artifact("exported-model", "model", exported)


def _open(client: Client, known: Callable[[], Entry | None], **about: Any) -> Session | Entry:
    """A run to fill, or the entry of one that was told all this before."""
    found = known()
    if found is None and (session := client.online_run(**about)):
        return session
    # Without an answer from W&B the question is another one: what is kept offline needs no second copy.
    return found or known() or client.offline_run(**about)


def _finish(session: Session, name: str, id_: str, state: str, root: Path, *, failed: bool) -> Entry:
    """End the run, and write down what became of it."""
    sent = session.finish(exit_code=int(failed))
    arrived = bool(sent.url) and not sent.missing
    before = kept.read(root).runs.get(name)
    if before is not None and before.id == id_ and before.folder and not sent.missing:
        # What waits there is now in W&B, or in a newer folder together with all that came later.
        (root / before.folder / f"run-{id_}.wandb.synced").touch()
    inside = sent.folder.is_relative_to(root.resolve())
    folder = sent.folder.relative_to(root.resolve()) if inside else sent.folder
    entry = Entry(
        id=id_,
        url=sent.url,
        project=sent.project,
        folder="" if arrived else str(folder),
        state="" if sent.missing else state,
    )
    kept.note(name, entry, root, first=name == GATE)
    return entry


def _about(meta: RunMeta) -> dict[str, Any]:
    return {
        "project": labels.project(),
        "group": labels.group(meta),
        "tags": labels.tags(meta),
        "config": labels.config(meta),
        "commit": meta.git_commit,
    }


def _state(client: Client, *metas: RunMeta, more: str = "") -> str:
    """Digest of what is told, and to whom."""
    told = [[meta.id, meta.status, meta.steps, len(meta.resumes)] for meta in metas]
    place = [client.host, client.online, client.entity, labels.project(), labels.group(metas[0])]
    text = json.dumps([*place, told, more])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _record_name(name: str) -> str:
    return labels.artifact_name("record", name)


def _evidence(record: Record) -> dict[str, Path]:
    """The files of a record but for its checkpoints."""
    return {name: path for name in (schema.META, *schema.EVIDENCE) if (path := record.path / name).is_file()}


def _weights(record: Record) -> Path | None:
    """The released weights; None where the run did not finish, or the record was stripped of its checkpoints."""
    try:
        return record.weights if record.meta.status == "finished" else None
    except RecordError:
        return None


def _results(record: Record) -> dict[str, Any]:
    if record.meta.status != "finished":
        return {}
    return {f"result/{plain(name)}": value for name, value in record.metrics.items()}


def _evaluation(root: Path) -> dict[str, Any]:
    """The numbers of evaluation/metrics.json, as far as it is there and readable."""
    try:
        values = json.loads((root / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    numbers = leaves(values) if isinstance(values, dict) else {}
    return {f"evaluation/{plain(name)}": n for name, n in numbers.items() if isinstance(n, int | float)}


def _row(verdict: Verdict) -> list[Any]:
    """The verdict in the order of `COLUMNS`; an open end of an interval, and what was not measured, is None."""
    low, high = verdict.interval or (None, None)
    ends = [end if end is not None and math.isfinite(end) else None for end in (low, high)]
    about = [verdict.gate, verdict.subject, str(verdict.outcome), verdict.blocks, verdict.statistic]
    told = [verdict.diagnosis, verdict.remedy, json.dumps(verdict_files.plain(verdict.evidence), ensure_ascii=False)]
    return [*about, *ends, verdict.threshold, verdict.unit, verdict.basis, *told]
