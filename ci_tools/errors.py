"""Every error that a user can cause or must act on.

SwitchbackError              exit code
├── ConfigError              2  a configuration file or a flag breaks a rule
├── DataError                2  input rows or columns break a rule
│   └── BundleError          2  a bundle is not what a trusted signer signed
├── RecordError              2  a run record is missing, damaged or cannot be written
│   ├── RecordLocked         2  another process owns the record
│   └── RecordMismatch       2  the record belongs to other params, data or code
├── CheckpointError          2  a checkpoint is damaged or does not fit the model
├── VerdictBlocks            1  a verdict keeps a model from being packed
├── TrainingFailed           1  training ended without a usable model; the evidence is kept
└── DependencyUnavailable    4  a program, service or package that is needed is not there

The command line prints `str(error)` without a traceback and exits with `exit_code`.
"""

import errno
import sys
from collections.abc import Callable

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

PREEMPTED = 75
"""Exit code after SIGTERM (EX_TEMPFAIL): the runner may start the same command again."""


class SwitchbackError(Exception):
    """One clear sentence for a person: what is wrong, where, the rule, the fix.

    Law: str(SwitchbackError("W", where="P", rule="R", fix="F")) == "P: W; R. Fix: F"
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = "", rule: str = "", fix: str = "") -> None:
        self.what, self.where, self.rule, self.fix = what, str(where), rule, fix
        sentence = f"{self.where}: {what}" if self.where else what
        if rule:
            sentence += f"; {rule}"
        if fix:
            sentence += f". Fix: {fix}"
        super().__init__(sentence)


class ConfigError(SwitchbackError):
    """A configuration file or a flag breaks a rule."""


class DataError(SwitchbackError):
    """Input rows or columns break a rule."""


class BundleError(DataError):
    """A bundle is not what a trusted signer signed."""


class RecordError(SwitchbackError):
    """A run record is missing, damaged or cannot be written."""


class RecordLocked(RecordError):
    """Another process owns the record."""


class RecordMismatch(RecordError):
    """The record belongs to other params, data or code."""


class CheckpointError(SwitchbackError):
    """A checkpoint is damaged or does not fit the model."""


class VerdictBlocks(SwitchbackError):
    """A verdict keeps a model from being packed."""

    exit_code = 1


class TrainingFailed(SwitchbackError):
    """Training ended without a usable model; the evidence is kept in the record."""

    exit_code = 1


class DependencyUnavailable(SwitchbackError):
    """A program, service or package that is needed is not there."""

    exit_code = 4


_EXTRAS = {
    "jinja2": "report",
    "github": "report",
    "wandb": "track",
    "tensorboard": "track",
    "prometheus_client": "track",
    **dict.fromkeys(("lightning", "transformers", "accelerate"), "loops"),
    **dict.fromkeys(
        ("envoy", "granian", "httpx", "model_signing", "OpenSSL", "orjson", "starlette", "uvicorn"), "serve"
    ),
}
"""Of a package, the extra that brings it, where that is not `train`."""
_REMEDIES = {
    errno.ENOSPC: "free some disk space, then run the same command again",
    errno.EROFS: "run where the disk is writable",
    errno.EACCES: "make it accessible to this user",
}


def explain(error: OSError | ModuleNotFoundError) -> SwitchbackError:
    """What the machine refused or lacks, as one of ours."""
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "train")
        fix = f"pip install 'switchback-ci[{extra}]'"
        return DependencyUnavailable(f"package {error.name} is not installed", fix=fix)
    remedy = _REMEDIES.get(error.errno or 0, "")
    return SwitchbackError(error.strerror or str(error), where=error.filename or "system", fix=remedy)


def run_stage(work: Callable[[], object], tell: Callable[[SwitchbackError], object] | None = None) -> int:
    """Do the work of a pipeline stage; a failure goes to `tell`, else to stderr in one line. Returns the exit code."""
    try:
        work()
    except SwitchbackError as error:
        failure = error
    except (OSError, ModuleNotFoundError) as error:
        failure = explain(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return 0
    if tell is None:
        sys.stderr.write(f"error: {failure}\n")
    else:
        tell(failure)
    return failure.exit_code
