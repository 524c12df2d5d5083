"""Does a file hold a pickle? Told by its content, because a name proves nothing; nothing is ever unpickled.

Loading a pickle runs whatever code its writer chose, so that a model or data file with one inside is a way into the
machine that serves it.
"""

import ast
import bz2
import io
import lzma
import os
import pickletools
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill")
"""Names that mean a pickle to whoever loads such files."""

_HEAD = 1 << 16
"""Bytes that tell what a file is."""

_OPCODES = 8
"""Valid opcodes in a row after a protocol byte that no other format shows; joblib's arrays end them early."""

_COMPRESSED: dict[tuple[bytes, ...], Callable[[], Any]] = {
    (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"): lambda: zlib.decompressobj(wbits=47),
    (b"BZh",): bz2.BZ2Decompressor,
    (b"\xfd7zXZ", b"\x5d\x00\x00"): lzma.LZMADecompressor,
}
"""First bytes, and what unpacks what follows; wbits 47 takes both gzip and zlib."""


def find_pickle(path: Path) -> str:
    """What in this file is a pickle, in a few words; empty where nothing is.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        found = _inside(file)
    named = path.suffix.lower() in SUFFIXES
    return found or (f"a file named {path.suffix}, which loaders unpickle" if named else "")


def _inside(file: IO[bytes]) -> str:
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(b"\x93NUMPY"):
        return "an array of Python objects" if _has_objects(head) else ""
    if head.startswith(b"PK\x03\x04"):
        return _in_archive(file)
    for magic, unpacker in _COMPRESSED.items():
        if head.startswith(magic):
            with suppress(OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
                unpacked = unpacker().decompress(head, _HEAD)
                return f"{found}, compressed" if (found := _inside(io.BytesIO(unpacked))) else ""
    return "a pickle" if _is_pickle(file, head) else ""


def _in_archive(file: IO[bytes]) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as inside:
                    found = _inside(inside) or ("a pickle" if member.filename.lower().endswith(SUFFIXES) else "")
                if found:
                    return f"{found} ({member.filename})"
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError):
        return "a zip archive that cannot be looked into"
    return ""


def _has_objects(head: bytes) -> bool:
    """Whether a .npy file holds objects; they are pickled behind its header (numpy.lib.format)."""
    width = 2 if head[6:7] == b"\x01" else 4
    end = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    try:
        described = ast.literal_eval(head[8 + width : end].decode("utf-8").strip())
        return bool(np.lib.format.descr_to_dtype(described["descr"]).hasobject)
    except (ValueError, SyntaxError, TypeError, KeyError):
        return False  # no loader gets past this header either


def _is_pickle(file: IO[bytes], head: bytes) -> bool:
    """Reads opcodes without carrying them out.

    From protocol 2 on a pickle names its protocol first. Protocols 0 and 1 are letters, like any text: there it must
    hold together to its end.
    """
    with warnings.catch_warnings(), suppress(ValueError, MemoryError):  # a damaged length asks for too much memory
        warnings.simplefilter("ignore")  # bytes that are no pickle may look like one with odd escapes
        if head.startswith(b"\x80"):
            list(islice(pickletools.genops(file), _OPCODES))
        else:
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                pickletools.dis(file, out=nowhere)
        return True
    return False
