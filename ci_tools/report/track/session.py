"""W&B's client within bounds: it waits a limited time for its server, and what the server does not take is kept."""

import errno
import netrc
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from ci_tools.errors import ConfigError, DependencyUnavailable
from ci_tools.report.track.burst import together
from ci_tools.report.track.history import Histogram, Point
from ci_tools.report.track.journal import rows_kept

SECONDS = 20.0
"""That W&B has to answer at the start of a run, and again to take the rest at its end."""
WRITTEN = 5.0
"""Seconds after which offline data that is not on the disk will not come any more."""
BURST = 256
"""Rows that are handed over together, at most."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ELSEWHERE = "/"
"""A folder without settings for W&B's client."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of a run's data."""

    url: str
    """Of the run; empty where W&B was not asked."""
    project: str
    """`entity/project`; empty as above."""
    folder: Path
    """Where the client wrote it on this machine."""
    missing: bool
    """Whether W&B should have all of it by now and has not."""


class Client:
    """W&B's client; once W&B fails to answer, all that follows is kept offline, so that nobody waits twice.

    Args:
        folder: of the repository; data is kept below its `wandb/`, or below WANDB_DIR.
        seconds: as `SECONDS`.
        key: for W&B; where there is none, that of the environment or of ~/.netrc.
        started: called whenever a run has begun, and with it, perhaps, the client's own process.

    Raises:
        ConfigError: W&B's settings, from the environment or the user's file, break its rules.
        ModuleNotFoundError: the package wandb is not installed.
    """

    def __init__(
        self,
        folder: Path = Path(),
        seconds: float = SECONDS,
        key: str = "",
        started: Callable[[], None] = lambda: None,
    ) -> None:
        # The client's reports about itself would go to a host that nobody named.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        # Copies of artifacts belong next to the runs that wait for `wandb sync`, not into the home directory.
        os.environ.setdefault("WANDB_DATA_DIR", str((folder / "wandb").resolve()))
        # The client's questions about artifacts have a limit of their own.
        os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(max(round(seconds / 2), 1)))
        import wandb

        self._wandb, self._seconds, self._key, self._started = wandb, seconds, key, started
        self._folder = str(Path(os.environ.get("WANDB_DIR") or folder).expanduser().resolve())
        settings = self._set_up().settings
        self.host, self.entity = str(settings.base_url), settings.entity or ""
        mode = os.environ.get("WANDB_MODE")
        self.online = mode in ("online", "run") or (not mode and (bool(key) or _has_key(self.host)))
        """Whether W&B is asked; no longer once it has failed to answer."""
        self.warning = ""
        """Why it is asked no longer."""

    def online_run(self, **about: Any) -> "Session | None":
        """Start a run, or continue the one that W&B has under its id; None where W&B does not answer.

        Args:
            about: arguments of `wandb.init`, and `commit`, of the run in git.
        """
        if not self.online:
            return None
        before = self._folders()
        try:
            run = self._init(mode="online", resume="allow", api_key=self._key or None, **about)
            return Session(self._wandb, run, online=True)
        except Exception as error:  # a client's or a server's failure, of whatever kind, must not become the caller's
            self._give_up(error)
        for folder in self._folders() - before:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def offline_run(self, **about: Any) -> "Session":
        """Start a run whose data waits on this machine for `wandb sync`; arguments as of `online_run`.

        Raises:
            DependencyUnavailable: the disk does not take it.
        """
        try:
            return Session(self._wandb, self._init(mode="offline", **about), online=False)
        except Exception as error:
            raise _not_kept(self._folder, _first_line(error), full=_is_full(error)) from error

    def _give_up(self, error: Exception) -> None:
        why = _first_line(error)
        does = "refuses the key" if re.search(r"error 40[13]\b", why) else "cannot be used"
        self.online, self.warning = False, f"W&B at {self.host} {does} ({why})"
        self._wandb.teardown()  # the client's service would hold on to the run's id
        self._set_up()

    def _set_up(self) -> Any:
        """Load the settings: those of the environment and of the user.

        Not those of `wandb/settings` where the client stands: a pull request could send the key to a server of its own.
        """
        with chdir(_ELSEWHERE):
            try:
                return self._wandb.setup(settings=self._wandb.Settings(silent=True, root_dir=self._folder))
            except ValidationError as error:
                first = error.errors()[0]  # without the value, which may be a key
                name = "_".join(map(str, ("WANDB", *first["loc"]))).upper()
                fix = f"correct or unset {name}, or correct W&B's settings file"
                raise ConfigError("W&B does not take it", where=name, rule=first["msg"], fix=fix) from None

    def _folders(self) -> set[Path]:
        """Of runs that were started online."""
        return set(Path(self._folder, "wandb").glob("run-*"))

    def _init(self, *, commit: str, api_key: str | None = None, **about: Any) -> Any:
        try:
            return self._wandb.init(dir=self._folder, settings=self._settings(commit, api_key), **about)
        finally:
            self._started()

    def _settings(self, commit: str, api_key: str | None) -> Any:
        """Silent, without a look at the machine, and never without a limit."""
        seconds = self._seconds
        return self._wandb.Settings(
            api_key=api_key,
            console="off",
            program="switchback track",
            disable_git=True,
            git_commit=commit or None,
            save_code=False,
            host="",
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=seconds,
            finish_timeout=seconds,
            finish_timeout_raises=True,
            x_graphql_timeout_seconds=seconds / 2,
            x_graphql_retry_max=3,
            x_file_stream_retry_wait_max_seconds=seconds / 2,
            x_file_transfer_retry_wait_max_seconds=seconds / 2,
        )


class Session:
    """One run of W&B while it is open; left by an error, it ends as failed, and what a full disk made of it is deleted.

    Raises (from every method):
        DependencyUnavailable: offline, and the disk does not take the data.
    """

    def __init__(self, wandb: Any, run: Any, *, online: bool) -> None:
        self._wandb, self._run, self._online = wandb, run, online
        self._missing = False
        self._logged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(Exception):
                self._run.finish(exit_code=1)
        if isinstance(error, DependencyUnavailable):
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return Path(self._run.settings.sync_dir)

    @property
    def rows(self) -> int:
        """Rows of history that W&B has already; they are not logged again."""
        return int(self._run.starting_step)

    def log(self, point: Point) -> None:
        """Add one row of history."""
        if point.number >= self.rows:
            values = {name: self._own(value) for name, value in point.values.items()} | {"_timestamp": point.at}
            self._attempt(lambda: self._run.log(values, step=point.number, commit=True))
            self._logged += 1

    def log_plain(self, points: Iterator[Point]) -> None:
        """Add rows of numbers and histograms, many at a time."""
        while rows := list(islice(points, BURST)):
            self._attempt(partial(self._log_together, rows))

    def _log_together(self, rows: Sequence[Point]) -> None:
        with together(self._run):
            for row in rows:
                self.log(row)

    def describe(self, tags: Sequence[str], summary: Mapping[str, Any]) -> None:
        """Replace the tags, and the entries of the summary that are named."""
        self._run.tags = tuple(tags)
        self._attempt(lambda: self._run.summary.update(dict(summary)))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
        """A value for `log`."""
        return self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])

    def page(self, path: Path) -> Any:
        """A value for `log`: an HTML file."""
        return self._wandb.Html(str(path), inject=False)

    def artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path | str],
        *,
        metadata: Mapping[str, Any] | None = None,
        used: bool = False,
    ) -> None:
        """Log a set of files; of equal ones W&B keeps one version. Once W&B failed to answer it is not asked for more.

        Args:
            name: of the artifact.
            kind: its type.
            files: name in the artifact to a file, or to its text.
            metadata: plain values.
            used: whether the run took it in, rather than brought it forth.
        """
        if not self._missing:
            self._attempt(lambda: self._log_artifact(name, kind, files, metadata or {}, used))

    def _log_artifact(
        self, name: str, kind: str, files: Mapping[str, Path | str], metadata: Mapping[str, Any], used: bool
    ) -> None:
        artifact = self._wandb.Artifact(name, type=kind, metadata=dict(metadata))
        for inside, content in files.items():
            if isinstance(content, Path):
                artifact.add_file(str(content), name=inside)
            else:
                with artifact.new_file(inside, encoding="utf-8") as file:
                    file.write(content)
        if used:
            # `run.use_artifact` does the same, but refuses to work offline and waits for the upload without a limit.
            self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        else:
            self._run.log_artifact(artifact)

    def finish(self, exit_code: int = 0) -> Sent:
        """End the run; W&B shows it as finished, or with another exit code as failed."""
        folder = self._folder
        self._attempt(lambda: self._run.finish(exit_code=exit_code))
        if not self._online:
            deadline = time.monotonic() + WRITTEN
            # The client's service writes on for a moment after the client is done.
            while (kept := rows_kept(folder)) != self._logged:
                if time.monotonic() > deadline:
                    raise _not_kept(folder, f"the disk took {kept or 0} of {self._logged} rows", full=True)
                time.sleep(0.05)
            return Sent(url="", project="", folder=folder, missing=False)
        project = f"{self._run.entity}/{self._run.project}"
        return Sent(url=self._run.url or "", project=project, folder=folder, missing=self._missing)

    def _attempt(self, work: Callable[[], object]) -> None:
        """Online, what fails is W&B's or the network's failure and is only remembered; offline, it is the disk's."""
        try:
            work()
        except DependencyUnavailable:
            raise  # a row of several has told it
        except Exception as error:
            if not self._online:
                raise _not_kept(self._folder, _first_line(error), full=_is_full(error)) from error
            self._missing = True

    def _own(self, value: Any) -> Any:
        if isinstance(value, Histogram):
            return self._wandb.Histogram(np_histogram=(value.counts, value.edges))
        return value


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(host).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk without room is behind it; the client wraps what the system says."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _not_kept(folder: object, why: str, *, full: bool) -> DependencyUnavailable:
    mend = "make room there" if full else "see to that"
    fix = f"{mend}, then run `switchback track` again; the record itself is not affected"
    return DependencyUnavailable(f"data for W&B cannot be kept ({why})", where=folder, fix=fix)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
