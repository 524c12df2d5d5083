"""An append-only Arrow IPC stream that survives a crash: whole blocks are kept, a torn tail is dropped."""

import os
from pathlib import Path

import pyarrow as pa

from ci_tools.errors import RecordError

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

UNDECODABLE = (pa.ArrowException, OSError, EOFError, ValueError, MemoryError, OverflowError)
"""What Arrow raises on damaged bytes; a damaged length asks for more memory than there is."""


class ArrowLog:
    """Appends blocks of rows; each block is one IPC message handed to the operating system at once.

    Raises (from every method):
        RecordError: the disk refused the write.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise RecordError(f"cannot be written ({error.strerror})", where=path, fix="fix access") from None
        if self._file.tell() == 0:
            try:
                self._write(schema.serialize())
            except RecordError:
                self._file.close()
                raise

    def append(self, columns: dict[str, pa.Array]) -> None:
        """Append one block."""
        batch = pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def sync(self) -> None:
        """Push what was appended to the disk."""
        os.fsync(self._file.fileno())

    def close(self, *, finished: bool) -> None:
        """Close; a finished log gets the end-of-stream mark that the format asks for."""
        if finished:
            self._write(pa.py_buffer(_END_OF_STREAM))
        self._file.close()

    def _write(self, buffer: pa.Buffer) -> None:
        view = memoryview(buffer)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise RecordError(
                f"cannot be written ({error.strerror})", where=self.path, fix="free space, then run again to resume"
            ) from None


def read_log(path: Path) -> pa.Table:
    """All whole blocks; a torn tail is left out.

    Raises:
        RecordError: the file is missing or its head is not an Arrow stream.
    """
    table, _ = _scan(path, None)
    return table


def read_behind(path: Path, position: int) -> tuple[pa.Table, int]:
    """Whole blocks behind a byte position, and the position behind the last of them.

    Args:
        path: a log.
        position: as an earlier call returned it; 0 for the start.

    Raises:
        RecordError: the file is missing or its head is not an Arrow stream.
    """
    return _scan(path, None, position)


def cut_log(path: Path, rows: int) -> None:
    """Shorten a log to its first `rows` rows, so that a resumed run appends right behind them.

    Raises:
        RecordError: fewer whole rows are there, or `rows` does not fall on the end of a block.
    """
    table, end = _scan(path, rows)
    if table.num_rows != rows:
        raise RecordError(f"holds {table.num_rows} whole rows where the checkpoint counts on {rows}", where=path)
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())


def _scan(path: Path, limit: int | None, position: int = 0) -> tuple[pa.Table, int]:
    """Blocks behind `position`, up to `limit` rows, and the byte position behind the last of them."""
    try:
        file = pa.OSFile(str(path))
    except OSError:
        raise RecordError("no such file", where=path, fix="train again") from None
    with file:
        try:
            schema = pa.ipc.read_schema(file)
        except UNDECODABLE:
            raise RecordError("not an Arrow stream", where=path, fix="train again") from None
        file.seek(max(file.tell(), position))
        batches, rows, end = [], 0, file.tell()
        while limit is None or rows < limit:
            try:
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
                batch.validate(full=True)
            except UNDECODABLE:
                break  # the end, or a block that a crash tore
            batches.append(batch)
            rows, end = rows + batch.num_rows, file.tell()
    return pa.Table.from_batches(batches, schema), end
