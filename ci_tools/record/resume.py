"""Which checkpoint an unfinished record goes on from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ci_tools.console import say
from ci_tools.errors import RecordError, RecordMismatch
from ci_tools.record import files, provenance, schema
from ci_tools.record.schema import RunMeta
from ci_tools.repro import checkpoint, manifest


class Choice(NamedTuple):
    """What stands in a record's folder."""

    before: RunMeta | None
    """The unfinished run; None where a new one starts, or a replayed segment does."""
    folder: Path | None
    """Its newest usable checkpoint."""
    warnings: list[str]
    """What was wrong with newer ones."""


def choose(path: Path, now: RunMeta, *, replaying: bool, world: int, cut: Callable[[dict[str, Any]], None]) -> Choice:
    """The unfinished run and its newest usable checkpoint; damaged ones are set aside.

    Args:
        path: folder of the record.
        now: the run that wants to go on.
        replaying: the folder holds a checkpoint to replay from, and no record.
        world: processes that train.
        cut: shortens the logs to what a checkpoint counts on; RecordError where they are shorter already.

    Raises:
        RecordMismatch: the unfinished run had other params, data, code, layers or processes.
    """
    root, warnings = path / schema.CHECKPOINTS, list[str]()
    before = unfinished(path, now)
    if before is None and not replaying:
        return Choice(None, None, warnings)
    files.clear_scratch(root)
    while (folder := checkpoint.newest_good(root, warnings.append)) is not None:
        state = checkpoint.load(folder)[1]
        if len(state["generators"]) != world:
            raise RecordMismatch(
                f"unfinished record was made by {len(state['generators'])} processes, now {world}",
                where=path,
                fix="resume it with as many, or delete the record to start again",
            )
        try:
            if before is not None:
                cut(state["tape"])
        except RecordError as error:
            warnings.append(f"{error}; falling back to the checkpoint before")
            checkpoint.discard(folder)
            continue
        break
    for warning in warnings:
        say(f"warning: {warning}")
    return Choice(before, folder, warnings)


def unfinished(path: Path, now: RunMeta) -> RunMeta | None:
    """The run that stands in `path` with steps that would be lost by starting over; None where there is none.

    Raises:
        RecordMismatch: it had other params, data, code or layers.
    """
    meta = path / schema.META
    if not meta.exists():
        return None
    before = schema.parse_meta(meta.read_text(encoding="utf-8", errors="replace"), path)
    trained = [p for p in manifest.list_checkpoints(path / schema.CHECKPOINTS) if manifest.checkpoint_step(p) > 0]
    if not before.resumable or not trained:
        return None
    provenance.refuse_change(before, now, path)
    return before


def drop_behind(root: Path, step: int) -> Path | None:
    """The newest checkpoint of at most `step`; those behind it are deleted. None, and none deleted, without one."""
    folders = manifest.list_checkpoints(root)
    good = [p for p in folders if manifest.checkpoint_step(p) <= step]
    if not good:
        return None
    for folder in folders[len(good) :]:
        checkpoint.discard(folder)
    return good[-1]
