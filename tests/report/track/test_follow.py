"""A record followed while it is written, in the orders in which a writer and a reader may meet."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ci_tools.errors import RecordError
from ci_tools.record import schema
from ci_tools.record.lock import RecordLock, is_written
from ci_tools.record.log import ArrowLog, cut_log
from ci_tools.record.reader import open_record
from ci_tools.report.track import follow as module
from ci_tools.report.track.follow import follow
from tests.report.track.written import Written, finished

STREAMS = ("trace", "probes", "evals", "losses", "shadows")
RESUMED = [{"at": "2026-11-21T10:02:00+00:00", "from_step": 20}]


@pytest.fixture
def run(tmp_path):
    run = Written(tmp_path / "run")
    yield run
    for log in run.logs.values():
        log.close(finished=False)
    run.lock.release()


def meanwhile(*work):
    """A `sleep` during which one piece of work after the other happens."""
    left = iter(work)
    return lambda _: next(left)()


def steps(looks):
    return [look.trace.column("step").to_pylist() for look in looks]


def told(looks, name):
    return pa.concat_tables([getattr(look, name) for look in looks])


def same(a, b):
    return repr(a.to_pylist()) == repr(b.to_pylist())  # which takes NaN for equal to itself


def test_finished_record_is_told_at_once_and_whole(tmp_path):
    (look,) = follow(finished(tmp_path / "run"))
    assert look.ended
    assert look.trace.num_rows == 60
    for name in STREAMS:
        assert same(getattr(look, name), getattr(open_record(tmp_path / "run"), name)), name


def test_each_row_is_told_once_while_it_is_written(run):
    work = (
        lambda: run.steps(0, 30),
        lambda: run.evaluate(31),
        lambda: run.steps(30, 64),
        lambda: run.end("failed"),
    )
    looks = list(follow(run.folder, sleep=meanwhile(*work)))
    assert steps(looks) == [list(range(30)), [], list(range(30, 64)), []]
    assert [look.ended for look in looks] == [False, False, False, True]
    assert looks[-1].meta.status == "failed"
    for name in STREAMS:
        assert same(told(looks, name), getattr(open_record(run.folder), name)), name


def test_nothing_is_read_while_nothing_changes(run, monkeypatch):
    run.steps(0, 30)
    read, reads, left = module.read_behind, [], iter(range(5))
    monkeypatch.setattr(module, "read_behind", lambda path, at: reads.append(path.name) or read(path, at))
    looks = follow(run.folder, stop=lambda: next(left, None) is None, sleep=lambda _: None)
    assert steps(looks) == [list(range(30)), []]
    assert sorted(reads) == sorted(2 * schema.STREAMS)


def test_only_new_blocks_are_read(run, monkeypatch):
    read, sizes = module.read_behind, []

    def spy(path, position):
        table, end = read(path, position)
        if path.name == schema.TRACE:
            sizes.append(table.num_rows)
        return table, end

    monkeypatch.setattr(module, "read_behind", spy)
    run.steps(0, 30)
    list(follow(run.folder, sleep=meanwhile(lambda: run.steps(30, 40), lambda: run.end("failed"))))
    assert sizes == [30, 10, 0]


def test_torn_block_is_told_when_it_is_whole(run):
    run.steps(0, 10)
    run.steps(10, 20)
    path = run.folder / schema.TRACE
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    looks = follow(run.folder, sleep=meanwhile(lambda: path.write_bytes(whole), lambda: run.end("preempted")))
    assert steps(looks) == [list(range(10)), list(range(10, 20)), []]


def test_torn_block_of_a_dead_run_is_left_out(run):
    run.steps(0, 10)
    run.steps(10, 20)
    path = run.folder / schema.TRACE
    path.write_bytes(path.read_bytes()[:-5])
    run.end("crashed")
    assert steps(follow(run.folder)) == [list(range(10))]


@pytest.mark.parametrize("end", [30, 40, 50], ids=["shorter than before", "as long", "longer"])
def test_rows_that_a_resumed_run_writes_again_are_not_told_again(run, end):
    run.steps(0, 20)
    run.steps(20, 40)

    def resume():
        cut_log(run.folder / schema.TRACE, 20)
        run.note(resumes=RESUMED)
        run.logs[schema.TRACE].close(finished=False)
        run.logs[schema.TRACE] = ArrowLog(run.folder / schema.TRACE, run.logs[schema.TRACE].schema)
        run.steps(20, end)

    looks = list(follow(run.folder, sleep=meanwhile(resume, lambda: run.steps(end, 60), lambda: run.end("failed"))))
    assert told(looks, "trace").column("step").to_pylist() == list(range(60))


def test_record_cut_and_continued_within_a_look_is_looked_at_again(run, monkeypatch):
    run.steps(0, 20)
    run.steps(20, 40)
    read = module.read_behind

    def resume_in_between(path, position):
        monkeypatch.setattr(module, "read_behind", read)
        found = read(path, position)
        cut_log(path, 20)
        run.note(resumes=RESUMED)
        return found

    looks = follow(run.folder, live=False)
    monkeypatch.setattr(module, "read_behind", resume_in_between)
    assert steps(looks) == [list(range(20))]


def test_run_of_a_killed_process_has_ended(tmp_path, training_process):
    with training_process(tmp_path / "run") as ask:
        ask("steps", 0, 7)
        assert is_written(tmp_path / "run")
    assert not is_written(tmp_path / "run")
    (look,) = follow(tmp_path / "run")
    assert (look.ended, look.meta.status, look.trace.num_rows) == (True, "running", 7)


def test_writer_that_died_and_was_not_yet_buried_does_not_write(tmp_path):
    code = f"from tests.report.track.written import Written; Written({str(tmp_path / 'run')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.read()  # ends with the process, which stays a zombie until it is waited for
    assert not is_written(tmp_path / "run")
    process.stdout.close()
    process.wait()


def test_asking_who_writes_never_keeps_a_writer_out(run):
    run.lock.release()
    assert not is_written(run.folder)
    another = RecordLock(run.folder)
    another.acquire()
    another.release()


def test_writer_on_another_machine_is_believed(run):
    run.lock.path.write_text("process 1 on elsewhere")
    assert is_written(run.folder)


def test_without_live_a_running_record_is_looked_at_once(run):
    run.steps(0, 10)
    (look,) = follow(run.folder, live=False)
    assert (look.ended, look.trace.num_rows) == (True, 10)


def test_record_that_comes_later_is_waited_for(tmp_path):
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            finished(tmp_path / "late")

    assert steps(follow(tmp_path / "late", wait=60, sleep=sleep)) == [list(range(60))]


def test_record_that_never_comes_is_an_error(tmp_path):
    with pytest.raises(RecordError, match="no run record here"):
        list(follow(tmp_path / "never", wait=5, sleep=lambda _: None))


def test_record_of_a_newer_schema_is_refused(tmp_path):
    path = finished(tmp_path / "run") / schema.META
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(RecordError, match="schema version 2; this Switchback reads version 1"):
        list(follow(tmp_path / "run"))


@pytest.mark.parametrize("name", [schema.TRACE, schema.EVALS])
def test_finished_record_that_was_changed_is_refused(tmp_path, name):
    path = finished(tmp_path / "run") / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RecordError, match=f"{name} does not match the digest"):
        list(follow(tmp_path / "run"))


def test_stream_of_other_columns_is_refused(run):
    run.note(layers=[])
    with pytest.raises(RecordError, match=r"trace\.arrows has other columns"):
        list(follow(run.folder))


def test_another_run_in_the_record_s_place_is_noticed(run):
    run.steps(0, 10)
    with pytest.raises(RecordError, match="replaced by another run"):
        list(follow(run.folder, sleep=meanwhile(lambda: run.note(id="other"))))


def test_record_that_is_deleted_meanwhile_is_an_error(run):
    run.steps(0, 10)
    with pytest.raises(RecordError, match="no run record here"):
        list(follow(Path(run.folder), sleep=meanwhile(lambda: shutil.rmtree(run.folder))))
