"""One server under load: started, asked by wrk over several connections, its memory read, ended with its children."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from ci_tools.errors import DependencyUnavailable, TrainingFailed

START_SECONDS = 120.0
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
"""Milliseconds in the units that wrk writes."""


class Measured(NamedTuple):
    """Of one turn."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Answers other than 2xx or 3xx, and connections that broke."""


def wrk() -> str:
    """The load generator, from Debian's package of that name where it is not there yet.

    Raises:
        DependencyUnavailable: it cannot be installed.
    """
    if found := shutil.which("wrk"):
        return found
    elevate = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with suppress(OSError):
        subprocess.run([*elevate, "apt-get", "install", "-y", "-q", "wrk"], capture_output=True)
    if found := shutil.which("wrk"):
        return found
    raise DependencyUnavailable("wrk is not installed", where="benchmarks serving", fix="apt-get install wrk")


def lua(folder: Path, body: bytes) -> Path:
    """A script for wrk that posts a body."""
    script = folder / "post.lua"
    text = json.dumps(body.decode())  # a string of Lua, too, as long as it has no escapes
    script.write_text(f'wrk.method = "POST"\nwrk.body = {text}\nwrk.headers["Content-Type"] = "application/json"\n')
    return script


def press(url: str, script: Path, seconds: float, connections: int) -> Measured:
    """Ask as fast as answers come."""
    command = [wrk(), "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--latency", "-s", str(script), url]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(text: str) -> Measured:
    """What wrk prints.

    Raises:
        TrainingFailed: it is not what wrk prints.
    """
    found = [re.search(rf"{pattern}\s+([\d.]+)(\w*)", text) for pattern in (r"Requests/sec:", r"\b50%", r"\b99%")]
    rate, half, most = found
    if rate is None or half is None or most is None:
        raise TrainingFailed(f"wrk says {text[:200]!r}", where="benchmarks serving")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Measured(float(rate[1]), *(float(one[1]) * _TIMES[one[2]] for one in (half, most)), failed)


@contextmanager
def running(command: list[str], folder: Path, url: str, body: bytes) -> Iterator[psutil.Process]:
    """A server from its first right answer on; all its processes are gone behind it.

    Raises:
        TrainingFailed: it ends, or gives no right answer in time.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, start_new_session=True)
    try:
        _wait(process, url, body, log)
        yield psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def peak_mebibytes(process: psutil.Process) -> float:
    """Largest resident memory of a process and its children, each at its own worst; what they share counts in each."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(OSError, psutil.NoSuchProcess):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{one.pid}/status").read_text())
            total += int(found[1]) if found else 0
    return total / 1024


def score(answer: bytes) -> float:
    """The model's answer to the first row."""
    outputs = {one["name"]: one["data"] for one in json.loads(answer)["outputs"]}
    return float(outputs["score"][0])


def ask(url: str, body: bytes) -> bytes:
    """One request."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: bytes = answer.read()
        return found


def _wait(process: "subprocess.Popen[bytes]", url: str, body: bytes, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    why = ""
    while time.monotonic() < ends and process.poll() is None:
        try:
            score(ask(url, body))
        except (OSError, urllib.error.URLError, ValueError, KeyError) as error:
            why = str(error)
            time.sleep(0.05)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()
    raise TrainingFailed(f"does not answer ({why}): {said[-1][:200] if said else ''}", where=url)
