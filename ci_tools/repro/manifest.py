"""Checkpoint manifests: a SHA-256 per file and per tensor. Reads without torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ci_tools.errors import CheckpointError

MANIFEST = "manifest.json"
PREFIX = "step-"
TENSOR_FILES = ("model.safetensors", "state.safetensors")
FILES = (*TENSOR_FILES, "state.json")


def checkpoint_name(step: int) -> str:
    """Law: checkpoint_step(Path(checkpoint_name(n))) == n."""
    return f"{PREFIX}{step:08d}"


def checkpoint_step(folder: Path) -> int:
    """Completed optimizer steps that a checkpoint folder's name states."""
    return int(folder.name.removeprefix(PREFIX))


def list_checkpoints(root: Path) -> list[Path]:
    """Complete checkpoint folders under `root`, oldest first; unfinished ones carry another name."""
    found = [p for p in root.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdecimal() and p.is_dir()]
    return sorted(found, key=checkpoint_step)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_digest(data: bytes | memoryview) -> str:
    """SHA-256 (hex) of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a checkpoint says that it holds, unchecked.

    Raises:
        CheckpointError: it does not say so legibly.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = (
            manifest["files"].keys() == set(FILES)
            and manifest["tensors"].keys() == set(TENSOR_FILES)
            and all(isinstance(tensors, dict) for tensors in manifest["tensors"].values())
            and all(type(manifest[key]) is int and manifest[key] >= 0 for key in ("trace_rows", "best_step"))
            and manifest["best_step"] <= checkpoint_step(folder)
        )
        if not whole:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError("manifest is missing or unreadable", where=folder) from None
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check every file and every tensor against the manifest; returns the manifest.

    Raises:
        CheckpointError: names the first file or tensor that is missing or differs.
    """
    manifest = read_manifest(folder)
    tensors = manifest["tensors"]
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing", where=folder)
        changed = _changed_tensor(path, tensors[name]) if name in tensors else ""
        if changed or file_digest(path) != expected:
            raise CheckpointError(
                f"{changed or name} does not match its manifest",
                where=folder,
                rule="a checkpoint is used only when every SHA-256 agrees",
            )
    return manifest


def tensor_digests(path: Path) -> dict[str, str]:
    """SHA-256 of each tensor's raw bytes in one safetensors file, read without torch."""
    data = memoryview(path.read_bytes())
    header_size = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + header_size]))
    start = 8 + header_size
    return {
        name: bytes_digest(data[start + info["data_offsets"][0] : start + info["data_offsets"][1]])
        for name, info in header.items()
        if name != "__metadata__"
    }


def read_tensors(path: Path) -> dict[str, Any]:
    """NumPy arrays by name from a safetensors file.

    Raises:
        CheckpointError: the file is not readable as safetensors.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"not a readable safetensors file ({error})", where=path) from None


def _changed_tensor(path: Path, expected: dict[str, str]) -> str:
    try:
        found = tensor_digests(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return path.name
    names = (*expected, *found)
    return next((f"tensor {name} in {path.name}" for name in names if found.get(name) != expected.get(name)), "")
