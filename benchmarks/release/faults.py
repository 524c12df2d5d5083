"""Which fault must end how, and where it is played."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.release import plays
from benchmarks.release.plays import HELD, REFUSED, Play, Seen
from benchmarks.release.service import Service, running
from benchmarks.release.traffic import Traffic
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE

ROLLED_BACK, PROMOTED, INCONCLUSIVE = "rolled back", "promoted", "inconclusive"


@dataclass(frozen=True)
class Scene:
    """A service for drills that need the same one."""

    name: str
    rate: float = 300.0
    """Requests per second; 0: there are none."""
    malformed: float = 0.0
    """Share of the requests that are nonsense."""
    disk_megabytes: int = 0
    """Size of the disk that the home is on; 0: it is on everybody's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the service."""

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Service]:
        """The service, with requests on it.

        Raises:
            Impossible: this machine cannot show it.
        """
        with ExitStack() as stack:
            if self.disk_megabytes:
                stack.enter_context(_small_disk(folder / "disk", self.disk_megabytes))
            home = folder / "disk" if self.disk_megabytes else folder
            service = stack.enter_context(running(folder, home=home / "service", **self.options))
            if self.rate:
                stack.enter_context(Traffic(service.port, self.rate, folder, malformed=self.malformed))
            yield service


class Impossible(Exception):
    """A drill that this machine cannot show."""


@contextmanager
def _small_disk(path: Path, megabytes: int) -> Iterator[None]:
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    try:
        told = subprocess.run(mounting, capture_output=True, text=True)
    except OSError as error:
        raise Impossible(f"no small disk: {error}") from None
    if told.returncode:
        raise Impossible(f"no small disk: {told.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


PATIENT = {"limits": {"deadline_seconds": 2.0}}
"""Requests that hang end soon."""
USUAL = Scene(
    "usual", options={"supervisor": PATIENT | {"server_megabytes": 600}, "controller": {"answer_seconds": 4.0}}
)
NONSENSE = Scene("a third of the requests is nonsense", malformed=0.33)
SILENT = Scene("no requests", rate=0.0)
SMALL = Scene("a small disk", disk_megabytes=48)
JUMPING = Scene("a calendar that jumps", options={"program": "benchmarks.release.jumping"})
MANY_COPIES = Scene("many copies", options={"controller": {"mirror_per_second": 1000.0}})


@dataclass(frozen=True)
class Drill:
    """One fault."""

    play: Play
    end: tuple[str, ...]
    """As which it may end."""
    cause: str
    """Pattern of the sentence that names the cause."""
    scene: Scene = USUAL
    slow: bool = False
    """Whether it takes longer than a suite has."""

    def judge(self, seen: Seen) -> str:
        """What is wrong with how it ended; empty: nothing."""
        if seen.end not in self.end:
            return f"ended {seen.end}, not {' or '.join(self.end)}: {seen.cause}"
        if not re.search(self.cause, seen.cause):
            return f"the cause does not say {self.cause!r}: {seen.cause}"
        return ""


def _refused(play: Play, cause: str) -> Drill:
    return Drill(play, (REFUSED,), cause)


def _back(play: Play, cause: str, *, slow: bool = False) -> Drill:
    return Drill(play, (ROLLED_BACK,), cause, slow=slow)


DRILLS = {
    "tampered model": _refused(plays.tampered(MODEL), MODEL),
    "tampered manifest": _refused(plays.tampered(MANIFEST), MANIFEST),
    "tampered model card": _refused(plays.tampered(CARD), CARD),
    "tampered signature": _refused(plays.tampered(SIGNATURE), SIGNATURE),
    "tampered with in the registry": _refused(plays.tampered_in_the_registry, MODEL),
    "tampered with after its release began": _back(plays.tampered_later, MODEL),
    "wrong signer": _refused(plays.wrong_signer, "sign"),
    "other inputs": _refused(plays.other_inputs, "inputs differ"),
    "graph with other inputs than its manifest": _back(plays.lying_manifest, "input"),
    "external data outside of the bundle": _refused(plays.external_data, "external|other files"),
    "malformed requests": Drill(plays.malformed, (PROMOTED,), "'canary': 0", NONSENSE, slow=True),
    "crashes on load": _back(plays.process("load-crash"), "could not be kept running.*SIGABRT"),
    "hangs on load": _back(plays.process("load-hang"), "was not ready", slow=True),
    "crashes in its 200th run": _back(plays.process("crash:200"), "SIGKILL"),
    "hangs from its 300th run on": _back(plays.process("hang:300"), "timeouts|errors|not ready", slow=True),
    "freezes in its 300th run": _back(plays.process("freeze:300"), "timeouts|errors|not ready|health", slow=True),
    "answers slowly": _back(plays.process("slow:60"), "latency|p95", slow=True),
    "answers 5xx": _back(plays.process("errors:0.3"), "errors|no valid answer"),
    "answers NaN": _back(plays.graph("nan", 0.3), "invalid|no valid answer"),
    "answers garbage": _back(plays.graph("garbage", 0.3), "invalid|no valid answer"),
    "eats memory": _back(plays.process("leak:1"), "memory", slow=True),
    "differs in 3 % of decisions": Drill(
        plays.silent_flips, (ROLLED_BACK, INCONCLUSIVE), "flips", MANY_COPIES, slow=True
    ),
    "no traffic": Drill(plays.no_traffic, (HELD,), "traffic|request", SILENT, slow=True),
    "metrics lost": Drill(plays.metrics_lost, (f"{HELD}, then {PROMOTED}",), "access log", slow=True),
    "ledger edited by hand": _refused(plays.ledger_edited, "event 2"),
    "a second service in one home": _refused(plays.second_service, "already runs"),
    "port taken": _refused(plays.port_taken, "taken"),
    "disk full": Drill(plays.disk_full, (PROMOTED, ROLLED_BACK, INCONCLUSIVE), "disk|space", SMALL, slow=True),
    "clock jump": Drill(plays.clock_jump, (PROMOTED,), ".", JUMPING, slow=True),
}
