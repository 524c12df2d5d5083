"""Checkpoints that survive anything: written aside, fsynced, read back, renamed; verified before use.

A checkpoint folder `step-N` holds the state after N optimizer steps:
    model.safetensors   weights and buffers, by state_dict key
    state.safetensors   tensors of optimizer, schedule, scaler, generators and monitor
    state.json          everything else, referring to those tensors
    manifest.json       SHA-256 per file and per tensor
"""

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ci_tools import files
from ci_tools.errors import CheckpointError, RecordError
from ci_tools.repro import manifest
from ci_tools.repro.state import join, split

WEIGHTS, TENSORS, STATE = "model.safetensors", "state.safetensors", "state.json"


class CheckpointWriter:
    """Writes in the background: `write` returns once the state is copied; the next call waits for the last one.

    Raises (from `write` and `wait`):
        RecordError: the disk refused the checkpoint; earlier checkpoints are untouched.
    """

    def __init__(self, root: Path, keep: int) -> None:
        self.root, self.keep = root, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(
        self, step: int, weights: dict[str, Any], state: dict[str, Any], trace_rows: int, before: Callable[[], None]
    ) -> None:
        """Copy and write one checkpoint; `before` makes durable whatever the checkpoint relies on."""
        self.wait()
        tree, tensors = split(state)
        weights, tensors = _copy(weights), _copy(tensors)
        facts = {"trace_rows": trace_rows, "best_step": int(state["best_step"])}

        def work() -> None:
            try:
                before()
                _write(self.root / manifest.checkpoint_name(step), weights, tensors, tree, facts)
                prune(self.root, self.keep)
            except BaseException as error:  # handed to the training thread by wait()
                self._error = error

        self._thread = threading.Thread(target=work, name=f"checkpoint-{step}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Block until the checkpoint in flight is on disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise RecordError(
                f"checkpoint could not be written ({error})",
                where=self.root,
                fix="free space, then run again to resume",
            ) from error


def prune(root: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and those that were the best when one of these was made.

    A run that goes back to any kept checkpoint thus still finds the best one that this state refers to.
    """
    found = manifest.list_checkpoints(root)
    best = set()
    for folder in found[-keep:]:
        with suppress(CheckpointError):  # damaged since: it refers to nothing
            best.add(manifest.read_manifest(folder).get("best_step"))
    for folder in found[:-keep]:
        if manifest.checkpoint_step(folder) not in best:
            discard(folder)


def discard(folder: Path) -> None:
    """Delete a checkpoint so that a crash midway leaves nothing that looks like one."""
    doomed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and state of a verified checkpoint, on the CPU.

    Raises:
        CheckpointError: a file or tensor differs from the manifest, or the state cannot be read.
    """
    manifest.verify(folder)
    try:
        tree = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return _load_aligned(folder / WEIGHTS), join(tree, _load_aligned(folder / TENSORS))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"state cannot be read ({error})", where=folder) from None


def _load_aligned(path: Path) -> dict[str, torch.Tensor]:
    """Tensors in memory of their own: within the file's buffer their alignment, and with it the last bit of a sum
    over them, would differ from that of the run that wrote them.
    """
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def newest_good(root: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies; each damaged one is set aside and reported to `warn`."""
    for folder in reversed(manifest.list_checkpoints(root)):
        try:
            manifest.verify(folder)
        except CheckpointError as error:
            warn(f"{error}; falling back to the checkpoint before")
            damaged = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(damaged, ignore_errors=True)
            folder.rename(damaged)
            continue
        return folder
    return None


def _copy(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _write(folder: Path, weights: dict[str, Any], tensors: dict[str, Any], tree: Any, facts: dict[str, int]) -> None:
    scratch = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        save_file(weights, scratch / WEIGHTS)
        save_file(tensors, scratch / TENSORS)
        (scratch / STATE).write_text(json.dumps(tree), encoding="utf-8")
        names = (WEIGHTS, TENSORS, STATE)
        digests = {WEIGHTS: _digests(weights), TENSORS: _digests(tensors)}
        content = {
            **facts,
            "files": {name: manifest.file_digest(scratch / name) for name in names},
            "tensors": digests,
        }
        (scratch / manifest.MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
        for name in (*names, manifest.MANIFEST, "."):
            files.sync(scratch / name)
        for name, expected in digests.items():
            # The digests came from memory: this proves that the file holds what the model held.
            if manifest.tensor_digests(scratch / name) != expected:
                raise CheckpointError(f"{name} read back differs from memory", where=folder)
        if folder.exists():
            discard(folder)
        scratch.rename(folder)
        files.sync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _digests(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {name: tensor_digest(tensor) for name, tensor in sorted(tensors.items())}


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's raw bytes, as `manifest.tensor_digests` reads them from a file."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return manifest.bytes_digest(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
