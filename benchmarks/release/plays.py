"""What goes wrong with a release, one function per kind of fault: planted, left to run, and told as it ended.

The sentence that names the cause is the ledger's where the service decided, the error's where something was refused.
"""

import os
import re
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.release.killing import answering
from benchmarks.release.service import ACTOR, MODULE, Service
from ci_tools.errors import SwitchbackError
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import MODEL
from ci_tools.release.bundle.trust import Trust
from ci_tools.release.control import Phase, Release
from ci_tools.release.plan import Member, Role
from tests.release import graphs
from tests.release.bundle import toy

REFUSED, HELD = "refused", "held"
SILENT = 0.025
"""With which the graph decides 3.0 % of the traffic's requests differently."""
Play = Callable[[Service], "Seen"]


class Seen(NamedTuple):
    """How a drill ended."""

    end: str
    cause: str


def ended(release: Release) -> Seen:
    return Seen(str(release.result), release.reason)


def graph(fault: str, amount: float) -> Play:
    return lambda service: ended(service.release(service.bundle(f"{fault} {amount}", fault, amount)))


def process(fault: str) -> Play:
    return lambda service: ended(service.release(service.bundle(fault, process=fault)))


def _refused(work: Callable[[], object]) -> Seen:
    try:
        work()
    except SwitchbackError as error:
        return Seen(REFUSED, str(error))
    return Seen("taken", "nobody refused it")


def tampered(name: str) -> Play:
    """One byte of one file of a bundle that comes from outside."""

    def play(service: Service) -> Seen:
        path = service.packed(f"tampered {name}")
        content = bytearray((path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (path / name).chmod(0o644)
        (path / name).write_bytes(content)
        return _refused(lambda: service.registry.add(path, service.trust))

    return play


def tampered_in_the_registry(service: Service) -> Seen:
    """Before its release is asked for."""
    digest = service.bundle("tampered in the registry")
    _alter(service, digest)
    return _refused(lambda: service.submit(digest))


def tampered_later(service: Service) -> Seen:
    """After its release began, before its server reads it: the supervisor is stopped meanwhile."""
    digest = service.bundle("tampered later")
    os.kill(service.pid, signal.SIGSTOP)
    try:
        id_ = service.submit(digest).id
        _alter(service, digest)
    finally:
        os.kill(service.pid, signal.SIGCONT)
    return ended(service.follow(id_))


def _alter(service: Service, digest: str) -> None:
    """One byte of the model, in the registry."""
    model = service.home.bundles / digest / MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.chmod(0o644)
    model.write_bytes(content)


def wrong_signer(service: Service) -> Seen:
    other = service.folder / "other" / "key.pem"
    other.parent.mkdir()
    path = service.packed("wrong signer")
    return _refused(lambda: service.registry.add(path, Trust(public_keys=(public_beside(signing_key(other)),))))


def other_inputs(service: Service) -> Seen:
    """The manifest tells the truth, and the truth does not fit the champion."""
    path = service.packed("other inputs", graphs.risk(), inputs=())
    digest = service.registry.add(path, service.trust).digest
    return _refused(lambda: service.submit(digest))


def lying_manifest(service: Service) -> Seen:
    """The manifest is the champion's, the graph has other inputs."""
    graph = graphs.risk().replace(b"categorical", b"categorizal")
    path = service.packed("lying manifest", graph, inputs=_inputs(service))
    return ended(service.release(service.registry.add(path, service.trust).digest))


def _inputs(service: Service) -> object:
    champion = service.until(lambda status: bool(status.champion), "there is a champion").champion
    return service.registry.get(champion, service.trust).manifest.inputs


def external_data(service: Service) -> Seen:
    """Weights in a file outside of the bundle, and a signature on all of it."""
    import onnx
    from onnx import external_data_helper

    model = onnx.load_model_from_string(graphs.risk())
    weight = next(one for one in model.graph.initializer if one.raw_data)
    external_data_helper.set_external_data(weight, "../../../../etc/passwd", 0, len(weight.raw_data))
    weight.ClearField("raw_data")
    path = toy.sealed(service.folder / "sealed", service.key, model=model.SerializeToString())
    return _refused(lambda: service.registry.add(path, service.trust))


def no_traffic(service: Service) -> Seen:
    """Nobody asks anything."""
    return _held_then_over(service, service.submit(service.bundle("no traffic")).id)


def _held_then_over(service: Service, id_: str) -> Seen:
    held = service.until(lambda one: bool(one.release and one.release.phase is Phase.HELD), "it is held").release
    reason = held.reason if held else ""
    service.connection.order("rollback", ACTOR, "the drill is over")
    service.follow(id_)
    return Seen(HELD, reason)


def metrics_lost(service: Service) -> Seen:
    """The access log is moved away under Envoy, which writes on into the moved one."""
    id_ = service.submit(service.bundle("metrics lost")).id
    service.until(lambda one: bool(one.release and one.release.canary_weight > 0), "the canary ramps")
    service.home.access_log.replace(service.home.access_log.with_name("moved.jsonl"))
    service.until(lambda one: bool(one.release and one.release.phase is Phase.HELD), "it is held")
    service.hold(lambda: not service.actual.leased, "the lease runs out", 30)
    held = service.until(lambda one: bool(one.release and one.release.reason), "the reason is told").release
    service.hold(lambda: service.actual.envoy_pid > 0, "Envoy runs")
    os.kill(service.actual.envoy_pid, signal.SIGUSR1)
    return Seen(f"{HELD}, then {service.follow(id_).result}", held.reason if held else "")


def ledger_edited(service: Service) -> Seen:
    """By hand, while the controller is down; afterwards it is put right again."""
    service.hold(lambda: service.controller_pid() > 0, "the controller runs")
    controller = service.controller_pid()
    os.kill(controller, signal.SIGSTOP)
    with closing(sqlite3.connect(service.home.ledger)) as database:
        database.execute("DROP TRIGGER no_update")
        before = database.execute("SELECT body FROM events WHERE seq = 2").fetchone()[0]
        database.execute("UPDATE events SET body = replace(body, 'first', 'worst') WHERE seq = 2")
        database.commit()
    os.kill(controller, signal.SIGKILL)
    log = service.home.access_log.with_name("controller.log")
    service.hold(lambda: "event 2" in _tail(log), "the controller says why it does not start", 30)
    served, cause = answering(service.port), _tail(log)
    with closing(sqlite3.connect(service.home.ledger)) as database:
        database.execute("DROP TRIGGER IF EXISTS no_update")
        database.execute("UPDATE events SET body = ? WHERE seq = 2", (before,))
        database.commit()
    service.until(lambda one: bool(one.champion), "the controller works again")
    return Seen(REFUSED if served else "nobody serves", cause)


def _tail(log: Path) -> str:
    with suppress(OSError):
        return (log.read_text(encoding="utf-8").splitlines() or [""])[-1]
    return ""


def second_service(service: Service) -> Seen:
    return _started(service, str(service.home.path), service.port + 1)


def port_taken(service: Service) -> Seen:
    return _started(service, str(service.folder / "another"), service.port)


def _started(service: Service, home: str, port: int) -> Seen:
    words = [*MODULE, "benchmarks.release.serve", home, str(port), service.settings.model_dump_json()]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return Seen(REFUSED if told.returncode == 2 else f"exit code {told.returncode}", told.stderr.strip())


def disk_full(service: Service) -> Seen:
    """Nothing can be written while the canary has weight; later it can."""
    id_ = service.submit(service.bundle("disk full")).id
    service.until(lambda one: bool(one.release and one.release.canary_weight > 0), "the canary ramps")
    canary, filling = service.member(Role.CANARY), service.home.path / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    try:
        service.hold(lambda: bool(_warning(service, "disk|space")), "the status says that the disk is full", 30)
        warning = _warning(service, "disk|space")
        service.hold(lambda: _rests(canary), "the canary gets no more requests", 30)
        service.hold(lambda: answering(service.port) != "", "the champion answers", 10)
    finally:
        filling.unlink()
    return Seen(str(service.follow(id_).result), warning)


def _rests(member: Member | None) -> bool:
    """Whether a server gets no requests, by its own count: the files that tell of it cannot be written now."""
    if member is None:
        return True
    before = _requests(member)
    time.sleep(0.5)
    return _requests(member) == before


def _requests(member: Member) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{member.port}/metrics", timeout=5) as answer:
        found = re.findall(r"^switchback_server_requests_total\{.*\} (\d+)$", answer.read().decode(), re.MULTILINE)
    return sum(map(int, found))


def _warning(service: Service, pattern: str) -> str:
    status = service.status()
    return next((one for one in status.warnings if re.search(pattern, one)), "") if status else ""


def clock_jump(service: Service) -> Seen:
    """The controller's calendar jumps by a day, back and forth (benchmarks/release/jumping.py)."""
    return ended(service.release(service.bundle("clock jump")))


def malformed(service: Service) -> Seen:
    """A third of the requests are nonsense (the traffic is): nobody's fault but the clients'."""
    release = service.release(service.bundle("malformed requests"))
    counts = [one.counts for one in service.until(lambda one: True, "the status").decision.verdicts
              if one.metric == "events.errors"]  # fmt: skip
    return Seen(str(release.result), f"{release.reason} {counts}")


def silent_flips(service: Service) -> Seen:
    """Nothing fails, but 3 % of the decisions are others."""
    return ended(service.release(service.bundle("flips", "flips", SILENT), 120))
