"""Requests at a steady rate, whether the ones before were answered or not, and what became of each.

    python -m benchmarks.release.traffic --port 8080 --rate 400 --out failures.jsonl

Sends until SIGTERM. Each failure is a line of the file at once; the last line is the summary. The latency counts from
the moment at which a request was due, so that a service that stalls is not spared the requests of that time.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import read_lines
from ci_tools.release.supervisor.child import Child

NAME = "risk"
INFER = f"/v2/models/{NAME}/infer"
BODIES = 997
"""Different requests, sent again and again in turn."""
CONNECTIONS = 256
"""At most; a request that finds none free waits, and its latency with it."""
PATIENCE = 20.0
"""Seconds without an answer after which a request counts as lost."""
MALFORMED = (
    b"{",
    b"[]",
    b'{"inputs": 3}',
    b'{"inputs": []}',
    b'{"inputs": [{"name": "numeric", "datatype": "FP32", "shape": [1, 4], "data": ["x", 0, 0, 0]}]}',
    b"\xff" * 50,
)
"""Bodies that no server can read."""
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close", re.IGNORECASE)


class Traffic:
    """A generator in a process of its own, for a `with` block."""

    def __init__(self, port: int, rate: float, folder: Path, *, malformed: float = 0.0) -> None:
        self._out = folder / f"traffic-{time.monotonic_ns()}.jsonl"
        options = {"--port": port, "--rate": rate, "--out": self._out, "--malformed": malformed}
        words = [str(word) for pair in options.items() for word in pair]
        self._child = Child([sys.executable, "-m", "benchmarks.release.traffic", *words], self._out.with_suffix(".log"))
        self.summary: dict[str, Any] = {}
        """Filled when the block ends."""

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._child.ended():
            self._child.signal(signal.SIGTERM)
            ends = time.monotonic() + PATIENCE + 10
            while not self._child.ended() and time.monotonic() < ends:
                time.sleep(0.02)
        ended = self._child.ended()
        self._child.kill()
        lines = read_lines(self._out)
        if not lines or "sent" not in lines[-1]:
            raise RuntimeError(f"the traffic ended without a summary: {ended or 'it did not end'}")
        self.summary = lines[-1]

    def failures(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Those so far of requests that were due at `since` or later, in seconds since 1970."""
        if not self._out.exists():
            return []
        text = self._out.read_bytes()
        found = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        return [one for one in found if "why" in one and one["t"] >= since]


class _Line(asyncio.Protocol):
    """One kept connection, with one request on it at a time."""

    def __init__(self, owner: "Generator") -> None:
        self._owner, self._buffer = owner, b""
        self.due: float | None = None
        """Of the request under way."""
        self.sound = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def send(self, due: float, request: bytes, sound: bool) -> None:
        self.due, self.sound = due, sound
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head)
        whole = head + 4 + int(length[1]) if length else 0
        if len(self._buffer) < whole or (not length and not self._buffer.endswith(b"0\r\n\r\n")):
            return
        code, closes = self._buffer[9:12].decode(), bool(_CLOSE.search(self._buffer, 0, head))
        answered, self._buffer = self._buffer, b""
        due, self.due = self.due, None
        if due is not None:
            self._owner.answered(due, code, self.sound, answered)
        if closes:
            self.transport.close()
        else:
            self._owner.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.gone(self)
        if self.due is not None:
            due, self.due = self.due, None
            self._owner.lost(due, f"connection lost: {error or 'closed'}")


class Generator:
    """Everything in one loop."""

    def __init__(self, port: int, rate: float, malformed: float, out: Path) -> None:
        self._port, self._rate, self._malformed = port, rate, malformed
        self._out = out.open("a", encoding="utf-8", buffering=1)
        self._lines: set[_Line] = set()
        self._idle: list[_Line] = []
        self._opening = 0
        self._waiting: deque[tuple[float, bytes, bool]] = deque()
        self._codes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        self._late: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = self._lost = 0
        self._wall = time.time() - time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, or until whoever started this has ended."""
        chance, parent, begun = random.Random(0), os.getppid(), time.monotonic()
        bodies = [request(body) for body in payloads(BODIES)]
        broken = [request(body) for body in MALFORMED]
        while not stop.is_set() and os.getppid() == parent:
            now = time.monotonic()
            while (due := begun + self._sent / self._rate) <= now:
                sound = chance.random() >= self._malformed
                self._dispatch(due, bodies[self._sent % BODIES] if sound else chance.choice(broken), sound)
                self._sent += 1
            self._give_up(now)
            await asyncio.sleep(max(due - time.monotonic(), 0.0005))
        seconds = time.monotonic() - begun
        ends = time.monotonic() + PATIENCE
        while (self._waiting or any(line.due for line in self._lines)) and time.monotonic() < ends:
            self._give_up(time.monotonic())
            await asyncio.sleep(0.01)
        self._summarise(seconds)

    def _dispatch(self, due: float, text: bytes, sound: bool) -> None:
        if self._idle:
            self._idle.pop().send(due, text, sound)
            return
        self._waiting.append((due, text, sound))
        if len(self._lines) + self._opening < CONNECTIONS and self._opening < len(self._waiting):
            self._opening += 1
            task = asyncio.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(lambda: _Line(self), "127.0.0.1", self._port)
        except OSError as error:
            if self._waiting:
                self.lost(self._waiting.popleft()[0], f"no connection: {error.strerror or error}")
        else:
            self._lines.add(line)
            self.free(line)
        finally:
            self._opening -= 1

    def free(self, line: _Line) -> None:
        """A connection can take the next request."""
        if self._waiting:
            line.send(*self._waiting.popleft())
        else:
            self._idle.append(line)

    def gone(self, line: _Line) -> None:
        """A connection has ended."""
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    def answered(self, due: float, code: str, sound: bool, answer: bytes) -> None:
        """A request was; a sound one with anything but 200 has failed."""
        self._codes[sound][code] += 1
        self._late.append(time.monotonic() - due)
        if code != "200" and sound:
            body = answer.partition(b"\r\n\r\n")[2]
            self._failed(due, f"{code}: {body[:200].decode(errors='replace')}")

    def lost(self, due: float, why: str) -> None:
        """A request will not be answered."""
        self._lost += 1
        self._failed(due, why)

    def _failed(self, due: float, why: str) -> None:
        self._out.write(json.dumps({"t": self._wall + due, "why": why}) + "\n")

    def _give_up(self, now: float) -> None:
        for line in [one for one in self._lines if one.due is not None and now - one.due > PATIENCE]:
            due, line.due = line.due, None
            self.lost(due or now, f"no answer for {PATIENCE:g} s")
            line.transport.abort()
        while self._waiting and now - self._waiting[0][0] > PATIENCE:
            self.lost(self._waiting.popleft()[0], f"no connection for {PATIENCE:g} s")

    def _summarise(self, seconds: float) -> None:
        late = np.percentile(self._late, [50, 99, 100]) * 1e3 if self._late else (0.0, 0.0, 0.0)
        summary = {
            "sent": self._sent,
            "seconds": seconds,
            "answered": dict(self._codes[True]),
            "malformed": dict(self._codes[False]),
            "lost": self._lost,
            "ms": dict(zip(("p50", "p99", "max"), map(float, late), strict=True)),
        }
        self._out.write(json.dumps(summary) + "\n")
        self._out.close()


def payloads(count: int) -> list[bytes]:
    """Requests of one row each, drawn once for all."""
    chance = random.Random(1)
    found = []
    for _ in range(count):
        numeric = [round(chance.gauss(0, 2), 3) for _ in range(4)]
        codes = [chance.randrange(8) for _ in range(2)]
        inputs = [{"name": "numeric", "datatype": "FP32", "shape": [1, 4], "data": numeric},
                  {"name": "categorical", "datatype": "INT64", "shape": [1, 2], "data": codes}]  # fmt: skip
        found.append(json.dumps({"inputs": inputs}).encode())
    return found


def request(body: bytes) -> bytes:
    """As it goes over the wire."""
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: drill\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Generator(options.port, options.rate, options.malformed, options.out).run(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.release.traffic", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--malformed", type=float, default=0.0, help="share of requests that no server can read")
    asyncio.run(_main(parser.parse_args()))
