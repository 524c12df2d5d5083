"""A run that dies at any instant resumes to the same bits."""

import random

import pytest

from ci_tools.record import open_record
from ci_tools.repro.compare import compare
from tests.record.server import program

RANDOM = random.Random(20)
KILLS = [
    # before the first checkpoint is complete, mid-write, at every kind of instant
    *[[{"fsync": n}] for n in (1, 2, 3, 4, 6, 9, 13, 18, 24, 30)],
    *[[{"rename": n}] for n in (1, 2, 3, 5, 7, 9)],
    *[[{"write": n}] for n in (1, 2, 3, 4, 6, 8, 11)],
    # mid-epoch, at epoch ends, at a checkpoint step, at the last step
    *[[{"step": n}] for n in (0, 7, 15, 30, 20, 21, 119)],
    # twice in one epoch, three times in one run, twice inside one checkpoint
    [{"step": 47}, {"step": 52}],
    [{"step": 61}, {"step": 61}],
    [{"step": 25}, {"step": 70}, {"step": 110}],
    [{"fsync": 8}, {"fsync": 3}],
    [{"write": 5}, {"step": 44}],
    # whenever
    *[[{"seconds": RANDOM.uniform(0.0, 0.3)}] for _ in range(15)],
]


@pytest.fixture(scope="module")
def server():
    with program("tests.record.fork_server") as ask:

        def run(record, kill=None, **options):
            return ask(record=str(record), options=options, kill=kill)

        yield run


@pytest.fixture(scope="module")
def reference(server, tmp_path_factory):
    record = tmp_path_factory.mktemp("reference") / "run"
    assert server(record) == 0
    return record


def test_there_are_fifty_kills():
    assert len(KILLS) == 50


@pytest.mark.parametrize("kills", KILLS, ids=lambda kills: "+".join(f"{k}{v:.3g}" for x in kills for k, v in x.items()))
def test_killed_run_resumes_to_the_same_bits(server, reference, tmp_path, kills):
    record = tmp_path / "run"
    exits = [server(record, kill) for kill in kills]
    assert all(code in (0, -9) for code in exits)
    if "seconds" not in kills[0]:
        assert exits[0] == -9, "the kill was never reached"
    assert server(record) == 0
    found = compare(reference, record)
    assert found.identical, found.render()
    assert open_record(record).meta.status == "finished"
    assert not [p for p in (record / "checkpoints").iterdir() if p.name.startswith(".")]


def test_the_comparison_would_notice_a_run_that_did_not_resume_exactly(server, reference, tmp_path):
    record = tmp_path / "run"
    assert server(record, {"step": 50}) == -9
    assert server(record, bump="rate", at=60) == 0
    assert not compare(reference, record).identical
