from pathlib import Path

import pyarrow as pa
import pytest

from ci_tools.errors import RecordError
from ci_tools.record.log import ArrowLog, cut_log, read_log

SCHEMA = pa.schema([("step", pa.int64()), ("value", pa.list_(pa.float32(), 2))])


def block(start, rows):
    return {
        "step": pa.array(range(start, start + rows), pa.int64()),
        "value": pa.array([[i, -i] for i in range(start, start + rows)], pa.list_(pa.float32(), 2)),
    }


@pytest.fixture
def log(tmp_path):
    writer = ArrowLog(tmp_path / "log.arrows", SCHEMA)
    for start, rows in ((0, 4), (4, 3), (7, 5)):
        writer.append(block(start, rows))
    writer.close(finished=False)
    return tmp_path / "log.arrows"


def steps(path):
    return read_log(path).column("step").to_pylist()


def test_any_arrow_reader_reads_a_finished_log(tmp_path):
    writer = ArrowLog(tmp_path / "log.arrows", SCHEMA)
    writer.append(block(0, 4))
    writer.close(finished=True)
    with pa.ipc.open_stream(str(tmp_path / "log.arrows")) as reader:
        assert reader.read_all().equals(read_log(tmp_path / "log.arrows"))


def test_a_torn_tail_loses_only_the_last_block(log):
    whole = log.read_bytes()
    sizes = set()
    for end in range(len(whole) - 1, 0, -1):
        log.write_bytes(whole[:end])
        try:
            rows = len(steps(log))
        except RecordError:
            break
        assert steps(log) == list(range(rows))
        sizes.add(rows)
    assert sizes == {0, 4, 7}


def test_cutting_and_appending_gives_the_same_bytes(log):
    whole = log.read_bytes()
    cut_log(log, 7)
    assert steps(log) == list(range(7))
    writer = ArrowLog(log, SCHEMA)
    writer.append(block(7, 5))
    writer.close(finished=False)
    assert log.read_bytes() == whole


def test_cutting_to_nothing_keeps_the_head(log):
    cut_log(log, 0)
    assert steps(log) == []


@pytest.mark.parametrize("rows", [5, 13])
def test_cutting_where_no_block_ends_is_refused(log, rows):
    with pytest.raises(RecordError, match="whole rows"):
        cut_log(log, rows)


@pytest.mark.parametrize("content", [b"", b"not arrow at all" * 10])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x.arrows").write_bytes(content)
    with pytest.raises(RecordError, match="not an Arrow stream"):
        read_log(tmp_path / "x.arrows")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"x\.arrows: no such file"):
        read_log(tmp_path / "x.arrows")


def test_a_full_disk_is_one_clear_error():
    with pytest.raises(RecordError, match="No space left"):
        ArrowLog(Path("/dev/full"), SCHEMA)
