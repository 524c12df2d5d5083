"""A release service without a controller: its supervisor as a process, plans and leases from the test."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from ci_tools.files import write_atomic
from ci_tools.release.home import Home
from ci_tools.release.plan import LEASE_SECONDS, Actual, Health, Lease, Plan, Role, boot_time
from ci_tools.release.supervisor import Settings
from ci_tools.release.traffic import AccessLog
from tests.release.server.running import free_port
from tests.release.traffic.client import INFER, send

ROOT = Path(__file__).parents[3]
UPSTREAM = (sys.executable, "-S", str(ROOT / "tests/release/upstream.py"))
PROGRAM = """
import sys
from pathlib import Path
from ci_tools.errors import run_stage
from ci_tools.release.home import Home
from ci_tools.release.supervisor import Settings, Supervisor
home, port, settings = sys.argv[1:]
service = Supervisor(Home(Path(home)), port=int(port), settings=Settings.model_validate_json(settings))
sys.exit(run_stage(service.run))
"""
QUICK = {"settle_seconds": 0.2, "drain_seconds": 8.0, "probe_seconds": 0.5}
GOOD, NEW, OTHER = "a" * 64, "c" * 64, "e" * 64
"""Bundle digests."""


class Service:
    def __init__(self, folder, **settings):
        self.home = Home(folder)
        self.settings = Settings.model_validate({"server_command": UPSTREAM} | QUICK | settings)
        self.port = free_port()
        self.process = self.plan = None
        self.leading = True
        """Whether somebody renews the lease."""
        self._end, self._writing = threading.Event(), threading.Lock()
        self._lead = threading.Thread(target=self._renew)

    def bundle(self, digest, **behaviour):
        """Put a bundle into the registry; its server behaves as told."""
        path = self.home.bundles / digest
        path.mkdir(parents=True, exist_ok=True)
        (path / "upstream.json").write_text(json.dumps(behaviour))
        return digest

    def start(self):
        self.home.path.mkdir(parents=True, exist_ok=True)
        arguments = (str(self.home.path), str(self.port), self.settings.model_dump_json())
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, stderr=subprocess.PIPE)
        if not self._lead.is_alive():
            self._lead.start()
        return self

    def stop(self):
        """End it as systemd does; returns what it said."""
        self._end.set()
        self._lead.join()
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=60)[1].decode()

    def want(self, pools, **weights):
        """Write the next plan, with its lease."""
        self.plan = Plan(serial=self.plan.serial + 1 if self.plan else 1, pools=pools, **weights)
        self.renew()
        write_atomic(self.home.plan, self.plan.model_dump_json(), durable=False)
        return self.plan

    def serve(self, pools, **weights):
        """`want`, and wait until its servers are ready and it is in force."""
        plan = self.want(pools, **weights)
        self.until(lambda actual: all(actual.ready(role, bundle) for role, bundle in pools.items()), "servers ready")
        self.until(lambda actual: actual.serial == plan.serial and actual.leased, "plan in force")
        return plan

    def renew(self, seconds=LEASE_SECONDS):
        with self._writing:
            self._lend(seconds)

    def _lend(self, seconds):
        lease = Lease(serial=self.plan.serial, until=boot_time() + seconds)
        write_atomic(self.home.lease, lease.model_dump_json(), durable=False)

    def _renew(self):
        while not self._end.wait(0.5):
            with self._writing:  # or it would renew a lease that a test has ended meanwhile
                if self.leading and self.plan is not None:
                    self._lend(LEASE_SECONDS)

    @property
    def actual(self):
        return Actual.model_validate_json(self.home.actual.read_bytes()) if self.home.actual.exists() else Actual()

    def until(self, condition, what, seconds=40):
        """Wait until actual.json fulfils the condition."""
        end = time.monotonic() + seconds
        while not condition(self.actual):
            assert self.process.poll() is None, self.process.communicate()[1].decode()
            assert time.monotonic() < end, f"{what}: not within {seconds} s; {self.actual}"
            time.sleep(0.01)
        return self.actual

    def member(self, role, bundle=None):
        fit = [m for m in self.actual.members if m.role == role and bundle in (None, m.bundle)]
        return next(m for m in fit if m.health is not Health.DRAINING)

    def tell(self, member, **behaviour):
        """Change how a server behaves."""
        assert send(member.port, "/behave", body=json.dumps(behaviour).encode()).status == 200

    def entries(self, ids, seconds=20):
        """Access log's entries of the requests with these ids, in their order."""
        log, found, end = AccessLog(self.home.access_log), {}, time.monotonic() + seconds
        while set(ids) - found.keys():
            assert time.monotonic() < end, f"{len(set(ids) - found.keys())} of {len(ids)} not in the log"
            found |= {entry.id: entry for entry in log.read()}
            time.sleep(0.01)
        assert log.damaged == 0
        return [found[one] for one in ids]

    def ask(self, times=1, path=INFER, **request):
        return send(self.port, path, times=times, **request)

    def processes(self):
        """Those below the supervisor."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def running(folder, **settings):
    """A service that has bundles GOOD, NEW and OTHER; it and its processes end with the block."""
    service = Service(folder, **settings)
    for digest in (GOOD, NEW, OTHER):
        service.bundle(digest)
    service.start()
    family = []
    try:
        service.until(lambda actual: actual.envoy_pid > 0, "Envoy")
        yield service
        family = service.processes() if service.process.poll() is None else []
    finally:
        if service.process.poll() is None:
            service.stop()
        else:
            service._end.set()
            service.process.stderr.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, "processes outlived the supervisor"


ALL = {Role.STABLE: GOOD, Role.BASELINE: GOOD, Role.CANARY: NEW}
ALONE = {Role.STABLE: GOOD}
PROMOTED = {Role.STABLE: NEW, Role.PREVIOUS: GOOD}
