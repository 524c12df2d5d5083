"""Reads what the client wrote for `wandb sync`: records of W&B's own protobuf types in a log of 32 KiB blocks.

The framing is that of LevelDB's log: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last).
"""

import json
import struct

BLOCK, HEAD = 32 * 1024, 7


def records(folder):
    """The records of the one run in a run's folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = HEAD, []
    while position + HEAD <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEAD:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEAD])
        parts.append(content[position + HEAD : position + HEAD + length])
        position += HEAD + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(b"".join(parts))
            yield record
            parts = []


class Journal:
    """A run as it stands in its folder."""

    def __init__(self, folder):
        self.folder = folder
        self.history, self.summary, self.config, self.artifacts = [], {}, {}, {}
        self.exit_code = self.run = None
        for record in records(folder):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= _nested(record.run.config.update)
            elif kind == "config":
                self.config |= _nested(record.config.update)
            elif kind == "history":
                self.history.append(_nested(record.history.item))
            elif kind == "summary":
                self.summary |= _nested(record.summary.update)
            elif kind == "artifact":
                self.artifacts[record.artifact.name] = record.artifact
            elif kind == "exit":
                self.exit_code = record.exit.exit_code


def _nested(items):
    """Values by name; one that is an object comes as one item per entry."""
    found = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        target = found
        for name in outer:
            target = target.setdefault(name, {})
        target[last] = json.loads(item.value_json)
    return found
