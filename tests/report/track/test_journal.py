"""The client's own file, whole and in pieces."""

import struct

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from ci_tools.report.track.journal import rows_kept

BLOCK, HEAD = 32 * 1024, 7


def written(folder, records):
    """Frame records as the client does."""
    folder.mkdir()
    content = b":W&B" + bytes(3)
    for record in records:
        left, kind = record.SerializeToString(), 0
        while left or not kind:
            room = BLOCK - len(content) % BLOCK
            if room < HEAD:
                content, room = content + bytes(room), BLOCK
            part, left = left[: room - HEAD], left[room - HEAD :]
            kind = (3 if left else 4) if kind else (2 if left else 1)
            content += struct.pack("<IHB", 0, len(part), kind) + part
    (folder / "run-a.wandb").write_bytes(content)
    return folder / "run-a.wandb"


def history(size):
    record = Record()
    item = record.history.item.add()
    item.key, item.value_json = "loss", "1" * size
    return record


def end():
    record = Record()
    record.exit.exit_code = 0
    return record


@pytest.mark.parametrize("size", [1, 100, BLOCK - 30, BLOCK, 3 * BLOCK + 5])
def test_rows_are_counted_however_they_lie_in_the_blocks(tmp_path, size):
    written(tmp_path / "run", [*[history(size)] * 40, end()])
    assert rows_kept(tmp_path / "run") == 40


def test_file_without_the_end_of_the_run_is_not_whole(tmp_path):
    written(tmp_path / "run", [history(10)] * 5)
    assert rows_kept(tmp_path / "run") is None


def test_file_that_was_cut_anywhere_is_not_whole(tmp_path):
    path = written(tmp_path / "run", [*[history(20_000)] * 4, end()])
    whole = path.read_bytes()
    for size in range(0, len(whole), 611):
        path.write_bytes(whole[:size])
        assert rows_kept(tmp_path / "run") is None, size


def test_folder_without_a_file_is_not_whole(tmp_path):
    assert rows_kept(tmp_path) is None
