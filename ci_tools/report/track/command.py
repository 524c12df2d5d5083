"""What `switchback track`, and the process beside `switchback run`, tell W&B, and what they say of it."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ci_tools.errors import ConfigError, DependencyUnavailable, SwitchbackError, explain
from ci_tools.record.lock import is_written
from ci_tools.record.reader import open_record
from ci_tools.record.schema import META
from ci_tools.report.track import kept, labels, priority, wandb, workspace
from ci_tools.report.track.follow import Rows, follow
from ci_tools.report.track.kept import Entry
from ci_tools.report.track.names import plain
from ci_tools.report.track.session import SECONDS, Client

WAIT = 60.0
"""Seconds that a follower waits for a record that is not there yet."""
EVERY = 1.0
"""Seconds between two looks for a record that is being written."""


@dataclass
class Tracked:
    """What was told, and what went wrong."""

    runs: dict[str, Entry] = field(default_factory=dict)
    """Name to what became of the run in W&B."""
    files: dict[str, str] = field(default_factory=dict)
    """Name to where the run was written for another tracker."""
    report: str = ""
    """URL of the W&B report; empty without one."""
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [_line(name, entry) for name, entry in self.runs.items()]
        lines += [f"{name}: {path}" for name, path in self.files.items()]
        return "\n".join([*lines, f"report: {self.report}"] if self.report else lines)


def track(
    records: Sequence[Path],
    *,
    root: Path = Path(),
    live: bool = False,
    wait: float = 0.0,
    seconds: float = SECONDS,
) -> Tracked:
    """Tell W&B of records, then of the verdicts on them.

    An outage ends in a warning and data that is kept, not in an error.

    Args:
        records: folders, the release's first.
        root: of the repository.
        live: follow each record until its run ends, with the lowest priority.
        wait: seconds to wait for a record that is not there yet.
        seconds: that W&B has to answer, at the start and at the end of a run.

    Raises:
        ConfigError: two records have one name, or W&B's settings break its rules.
        RecordError: a record is missing, damaged or of another schema version.
        DataError: the verdicts are damaged.
        ModuleNotFoundError: the package wandb is not installed.
    """
    _refuse_namesakes(records)
    if os.environ.get("WANDB_MODE") == "disabled":
        return Tracked(warnings=["W&B is told nothing: WANDB_MODE is disabled"])
    if live:
        priority.give_way()
    teller = _Teller(Client(root, seconds, started=_out_of_the_way if live else lambda: None), root)
    for path in records:
        teller.record(path, follow(path, live=live, wait=wait))
    teller.verdicts(records)
    return teller.told


def export(to: str, records: Sequence[Path], out: Path, *, live: bool = False, wait: float = 0.0) -> Tracked:
    """Write records for TensorBoard, or as metrics for Prometheus.

    Args:
        to: tensorboard or prometheus.
        records: folders.
        out: folder to write below.
        live: follow each record until its run ends.
        wait: seconds to wait for a record that is not there yet.

    Raises:
        ConfigError: two records have one name.
        RecordError: a record is missing, damaged or of another schema version.
        ModuleNotFoundError: the tracker's package is not installed.
    """
    from ci_tools.report.track import prometheus, tensorboard

    _refuse_namesakes(records)
    told = Tracked()
    if live:
        priority.give_way()
    for path in records:
        name = plain(path.resolve().name)
        if to == "tensorboard":
            written = tensorboard.export(path, out, live, wait=wait)
        else:
            written = prometheus.export(path, out / f"{name}.prom", live, wait=wait)
        told.files[name] = str(written)
    return told


def attend(
    root: Path, ended: threading.Event, say: Callable[[str], None], seconds: float = SECONDS, key: str = ""
) -> None:
    """Tell W&B of each record while it is written; once `ended` is set, of all that is left, and of the verdicts.

    Nothing is raised: what is wrong with records or verdicts, the run itself says.

    Args:
        root: of the repository.
        ended: set when nothing more will be written.
        say: takes each line of what became of it, in the end.
        seconds: as in `track`.
        key: for W&B; where there is none, that of the environment or of ~/.netrc.
    """
    told = Tracked()
    try:
        client = Client(root, seconds, key, started=lambda: None if ended.is_set() else _out_of_the_way())
        teller = _Teller(client, root, forgives=(SwitchbackError, OSError))
        told = teller.told
        while not ended.wait(EVERY):
            for path in sorted((root / "runs").glob(f"*/{META}")):
                if is_written(path.parent):
                    teller.record(path.parent, follow(path.parent, stop=ended.is_set, sleep=ended.wait))
        from ci_tools.report.build import seeds_of  # takes a third of a second of a machine that was training

        records = [path for seed in seeds_of(root) if (path := root / "runs" / f"seed-{seed}").exists()]
        for path in records:
            teller.record(path, follow(path, live=False))
        teller.verdicts(records)
    except (SwitchbackError, OSError, ModuleNotFoundError) as error:
        told.warnings.append(_sentence(error))
    for line in (*str(told).splitlines(), *(f"warning: {warning}" for warning in told.warnings)):
        say(line)


def _refuse_namesakes(records: Sequence[Path]) -> None:
    """A record is called after its folder; of two with one name, trackers would keep the last."""
    seen: dict[str, Path] = {}
    for path in records:
        name = path.resolve().name
        if name in seen:
            rule, fix = "a record is called after its folder", "name them in calls of their own, or rename a folder"
            raise ConfigError(f"{seen[name]} and {path} have one name", where="switchback track", rule=rule, fix=fix)
        seen[name] = path


class _Teller:
    """Tells one run after another, and gathers what became of them; what it forgives becomes a warning."""

    def __init__(
        self, client: Client, root: Path, forgives: tuple[type[Exception], ...] = (DependencyUnavailable,)
    ) -> None:
        self._client, self._root, self._forgives, self.told = client, root, forgives, Tracked()

    def record(self, path: Path, looks: Iterator[Rows]) -> None:
        """Tell one record."""
        name = path.resolve().name
        self._tell(name, lambda: wandb.tell_record(self._client, name, path, looks, self._root))

    def verdicts(self, records: Sequence[Path]) -> None:
        """Tell the verdicts, then make the report that shows all runs of the group side by side."""
        if not records:
            return
        self._tell(wandb.GATE, lambda: wandb.tell_verdicts(self._client, records, self._root))
        projects = [entry.project for entry in self.told.runs.values() if entry.url]
        if self._client.online and projects:
            self.told.report, warning = workspace.publish(projects[0], labels.group(open_record(records[0]).meta))
            self._warn(warning)
            if self.told.report:
                kept.note_report(self.told.report, self._root)

    def _tell(self, name: str, tell: Callable[[], Entry | None]) -> None:
        try:
            entry = tell()
        except self._forgives as error:
            self._warn(_sentence(error))
            return
        if entry is None:
            return
        self.told.runs[name] = entry
        self._warn(self._client.warning)
        if entry.url and entry.folder:
            self._warn(f"{name}: W&B did not take everything in time; `switchback track` sends the rest")

    def _warn(self, warning: str) -> None:
        if warning and warning not in self.told.warnings:
            self.told.warnings.append(warning)


def _out_of_the_way() -> None:
    """W&B's own process, too; it has a session of its own."""
    priority.weigh(priority.NICE)


def _sentence(error: Exception) -> str:
    return str(explain(error) if isinstance(error, OSError | ModuleNotFoundError) else error)


def _line(name: str, entry: Entry) -> str:
    if entry.url:
        return f"{name}: {entry.url}"
    return f"{name}: kept in {entry.folder}; `wandb sync {entry.folder}` sends it"
