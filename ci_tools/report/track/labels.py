"""What a tracked run is called, where it belongs, and the settings it is found by."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ci_tools.errors import DependencyUnavailable
from ci_tools.git import asked
from ci_tools.record.schema import RunMeta
from ci_tools.report.track.names import plain

LONGEST = 64
"""Characters of a tag, a group or a project: the least of what trackers allow."""


def project(environ: Mapping[str, str] = os.environ) -> str:
    """WANDB_PROJECT, else the name of the repository."""
    name = environ.get("WANDB_PROJECT") or environ.get("GITHUB_REPOSITORY", "").rpartition("/")[2] or _repository()
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:LONGEST] or "switchback"


def group(meta: RunMeta, environ: Mapping[str, str] = os.environ) -> str:
    """WANDB_RUN_GROUP, else the pull request, else the branch or tag, else the commit, else `local`."""
    number = _pull_request(environ)
    chosen = environ.get("WANDB_RUN_GROUP") or (f"pull-request-{number}" if number else "")
    return short(chosen or environ.get("GITHUB_REF_NAME") or meta.git_commit[:12] or "local")


def tags(meta: RunMeta) -> list[str]:
    """Status, seed, and whether the commit says all about the code."""
    return [meta.status, f"seed-{meta.seed}", *(["uncommitted-changes"] if meta.git_dirty else [])]


def config(meta: RunMeta) -> dict[str, Any]:
    """The parameters under `params`, and what else made the run what it is."""
    told = ("seed", "params_digest", "git_commit", "git_dirty", "code_digest", "data", "fingerprint", "precision")
    sizes = ("total_steps", "batch_size", "steps_per_epoch", "probe_every", "checkpoint_every", "null_loss")
    values = meta.model_dump(mode="json", include={"params", *told, *sizes})
    weights = sum(math.prod(layer.shape) for layer in meta.layers)
    return values | {"record": meta.id, "schema_version": meta.schema_version, "weights": weights}


def outcome(meta: RunMeta) -> dict[str, Any]:
    """How the run ended, for the line that stands for it in a table of runs."""
    ended = {"status", "reason", "steps", "best_step", "best_metric", "train_seconds", "energy_joules", "warnings"}
    counts = {"resumes": len(meta.resumes), "recoveries": len(meta.recoveries)}
    return meta.model_dump(mode="json", include=ended) | counts


def short(text: str) -> str:
    """Printable, and of at most `LONGEST` characters."""
    return plain(text)[:LONGEST]


def artifact_name(*parts: str) -> str:
    """Letters, digits, `_`, `.` and `-`, of at most 128 characters, as artifacts are named."""
    return re.sub(r"[^\w.-]+", "-", "-".join(parts), flags=re.ASCII)[:128]


def _repository() -> str:
    try:
        return Path(asked("rev-parse", "--show-toplevel")).name or Path.cwd().name
    except (DependencyUnavailable, OSError):
        return Path.cwd().name


def _pull_request(environ: Mapping[str, str]) -> int | None:
    ref = re.fullmatch(r"refs/pull/(\d+)/\w+", environ.get("GITHUB_REF", ""))
    if ref:
        return int(ref[1])
    try:
        event = json.loads(Path(environ.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
