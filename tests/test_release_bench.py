"""The drills' own parts: traffic that counts right, campaigns that go on, limits that are limits."""

import asyncio
import json
import random
import time
from argparse import Namespace
from contextlib import contextmanager

import pytest

from benchmarks import load, release_kills, rollback
from benchmarks.harness import Result
from benchmarks.release import faults, killing, plays
from benchmarks.release.killing import CANDIDATES, GOOD, VICTIMS, Case
from benchmarks.release.observed import Unmet
from benchmarks.release.service import Service
from benchmarks.release.traffic import BODIES, Generator, payloads
from ci_tools.errors import DataError
from ci_tools.release.control import Result as Outcome
from tests.release.api import scenes

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"


# -- traffic --------------------------------------------------------------------------------------------------------


def sent(tmp_path, answer, *, rate=200.0, seconds=0.5, malformed=0.0):
    """Lines of a generator that met a server which answers the n-th request with `answer(n)`; None: it hangs up."""
    count = 0

    async def serve(reader, writer):
        nonlocal count
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                count += 1
                text = answer(count)
                if text is None:
                    break
                # Cut anywhere: parts of an answer arrive when they arrive.
                cut = random.Random(count).randrange(len(text))
                writer.write(text[:cut])
                await asyncio.sleep(0.001)
                writer.write(text[cut:])
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def both():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        stop, out = asyncio.Event(), tmp_path / "out.jsonl"
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await Generator(server.sockets[0].getsockname()[1], rate, malformed, out).run(stop)
        server.close()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return asyncio.run(both())


@pytest.mark.parametrize("answer", [OK, CHUNKED, LAST])
def test_every_answered_request_counts_once(tmp_path, answer):
    *failures, summary = sent(tmp_path, lambda n: answer)
    assert failures == []
    assert summary["sent"] > 50
    assert summary["answered"] == {"200": summary["sent"]}
    assert summary["lost"] == 0


def test_refusals_and_hang_ups_are_failures(tmp_path):
    begun = time.time()
    *failures, summary = sent(tmp_path, lambda n: BUSY if n == 5 else None if n == 9 else OK)
    assert sorted(one["why"][:15] for one in failures) == ["503: busy", "connection lost"]
    assert all(begun - 1 < one["t"] < time.time() for one in failures)
    assert summary["answered"] == {"200": summary["sent"] - 2, "503": 1}
    assert summary["lost"] == 1


def test_nobody_there_is_a_failure_each_time(tmp_path):
    out, stop = tmp_path / "out.jsonl", asyncio.Event()

    async def run():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        await Generator(port, 100.0, 0.0, out).run(stop)

    asyncio.run(run())
    *failures, summary = map(json.loads, out.read_text().splitlines())
    assert len(failures) == summary["lost"] == summary["sent"] > 5


def test_refused_nonsense_is_no_failure(tmp_path):
    *failures, summary = sent(tmp_path, lambda n: BUSY, malformed=1.0)
    assert failures == []
    assert summary["malformed"] == {"503": summary["sent"]}


def test_requests_differ():
    assert len(set(payloads(BODIES))) == BODIES


# -- kills ----------------------------------------------------------------------------------------------------------


def test_kills_reach_every_victim_behind_every_event():
    cases = [killing.drawn(number) for number in range(200)]
    assert {case.victim for case in cases} == set(VICTIMS)
    found = {(case.candidate, case.behind) for case in cases}
    assert found == {(candidate, kind) for candidate, kinds in CANDIDATES.items() for kind in kinds}
    assert {case.victim for case in cases if case.behind in ("deciding", "promoting")} == set(VICTIMS)


def stopped(monkeypatch, problem=""):
    """A campaign whose kills are made up; the numbers of those that were made."""
    made, stages = [], []

    def play(stage, case):
        made.append(case.number)
        case.problem = problem if case.number == 1 else ""
        return case

    @contextmanager
    def staged(folder):
        stages.append(folder)
        yield None

    monkeypatch.setattr(release_kills, "play", play)
    monkeypatch.setattr(release_kills, "staged", staged)
    return made, stages


def test_stopped_campaign_goes_on_where_it_was(tmp_path, monkeypatch):
    made, _ = stopped(monkeypatch)
    path = tmp_path / "runs.jsonl"
    whole = release_kills.campaign(path, range(4))
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    made.clear()
    assert release_kills.campaign(path, range(4)) == whole
    assert made == [3]
    assert path.read_bytes() == data


def test_harm_is_not_handed_on_to_the_next_kill(tmp_path, monkeypatch):
    made, stages = stopped(monkeypatch, problem="the ledger does not fit")
    lines = release_kills.campaign(tmp_path / "runs.jsonl", range(4))
    assert made == [0, 1, 2, 3]
    assert len(stages) == 2
    result = Result(name="release_kills", command="", settings={}, unit="s")
    release_kills.score(result, lines)
    assert result.facts["well"] == 3
    assert "the ledger does not fit" in result.facts["failed"][0]


def test_kills_of_other_code_are_not_mixed_in(tmp_path, monkeypatch):
    stopped(monkeypatch)
    path = tmp_path / "runs.jsonl"
    path.write_text(
        json.dumps(Case(number=0, victim="", behind="", wait=0, candidate=GOOD).line | {"code": "x"}) + "\n"
    )
    with pytest.raises(DataError, match="other code"):
        release_kills.campaign(path, range(1))


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outage", "last", "broken"),
    [(1500.0, 60.0, []), (2500.0, 60.0, ["after the outage"]), (1500.0, 130.0, ["last answer"])],
)
def test_rollback_keeps_its_limits(outage, last, broken):
    result = Result(name="rollback", command="", settings={}, unit="ms")
    rollback.judge(result, [rollback.Round(outage, last, 3, 0.1)] * 5)
    told = result.facts["failed"]
    assert [word for word in ("after the outage", "last answer") if any(word in one for one in told)] == broken


def seen(**changes):
    values = {"releases": [{"result": "promoted", "reason": ""}], "answered": {"200": 1000}, "problem": ""}
    return values | {"without a right answer": 0, "seconds": 1.0, "rate": 1000.0} | changes


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 0),
        ({"without a right answer": 1}, 1),
        ({"problem": "it never ended", "releases": []}, 1),
        ({"answered": {"200": 900}}, 1),
        ({"releases": [{"result": "rolled back", "reason": "harm"}]}, 1),
    ],
)
def test_load_keeps_its_limits(changes, count):
    scenario = load.Scenario(lambda service: [], (Outcome.PROMOTED,), 0)
    assert len(load.judge(scenario, seen(**changes))) == count


def test_fault_must_end_as_said_and_for_the_reason_said():
    drill = faults.Drill(plays.no_traffic, ("held",), "no traffic")
    assert drill.judge(plays.Seen("held", "There is no traffic.")) == ""
    assert "ended promoted" in drill.judge(plays.Seen("promoted", "There is no traffic."))
    assert "does not say" in drill.judge(plays.Seen("held", "The log is gone."))


def test_quick_faults_are_those_that_are_not_slow(monkeypatch):
    from benchmarks import release_faults

    played = []

    def play(drills):
        played.extend(drills)
        return {name: {"seconds": 1.0, "problem": "", "ended": "held", "cause": ""} for name in drills}

    monkeypatch.setattr(release_faults, "play", play)
    result = release_faults.main(Namespace(quick=True, command=""))
    assert set(played) == {name for name, drill in faults.DRILLS.items() if not drill.slow}
    assert result.facts["as they must"] == len(played)


class Starting(Service):
    """A service whose first starts end for these reasons; the next one runs."""

    def __init__(self, folder, *reasons):
        super().__init__(folder)
        self.reasons, self.ports = reasons, []

    def start(self):
        self.ports.append(self.port)

    @property
    def ended(self):
        return "".join(self.reasons[len(self.ports) - 1 : len(self.ports)])

    def status(self):
        return scenes.idle()


TAKEN = "exit code 2: error: supervisor: port 10000 on 127.0.0.1 is taken. Fix: choose another with --port"


def test_service_whose_port_was_taken_meanwhile_starts_on_another(tmp_path):
    service = Starting(tmp_path, TAKEN, TAKEN)
    service._begin()
    assert len(set(service.ports)) == 3
    assert service.port == service.ports[-1]


def test_service_that_ends_for_another_reason_says_so_at_once(tmp_path):
    reason = "exit code 4: error: Envoy is not installed"
    with pytest.raises(Unmet, match="the service ended: exit code 4: error: Envoy is not installed"):
        Starting(tmp_path, reason)._begin()
