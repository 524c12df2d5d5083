"""Whether the file that W&B's client keeps for `wandb sync` is whole: a full disk stops it without a word.

The file is a log of 32 KiB blocks, in which each record has a checksum (4 bytes), a length (2) and a kind (1) before
its part of the bytes; a record that does not fit into a block goes on in the next one.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_BLOCK, _HEAD = 32 * 1024, 7
_WHOLE, _LAST = 1, 4


def rows_kept(folder: Path) -> int | None:
    """Rows of history in the file of a run's folder; None where the end of the run is missing."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # made when imported

    rows, ended = 0, False
    for path in folder.glob("*.wandb"):
        for content in _records(path.read_bytes()):
            kind = Record.FromString(content).WhichOneof("record_type")
            rows, ended = rows + (kind == "history"), ended or kind == "exit"
    return rows if ended else None


def _records(content: bytes) -> Iterator[bytes]:
    """The records that are there in full; the file's own head is as long as that of a record."""
    position, parts = _HEAD, b""
    while position + _HEAD <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEAD:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += _HEAD
        if position + length > len(content):
            return
        parts += content[position : position + length]
        position += length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
