"""Clients of the service: one request, and many at a steady rate of which none may be lost."""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from ci_tools.release.plan import boot_time

INFER = "/v2/models/model/infer"


@dataclass
class Answer:
    """What a client saw; `status` 0: no answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    began: float = 0.0
    ended: float = 0.0
    error: str = ""

    @property
    def member(self):
        return self.headers.get("x-member", "")


class Connection:
    """Keeps its connection as long as the service does."""

    def __init__(self, port):
        self.port, self.streams = port, None

    async def send(self, path=INFER, *, method="POST", body=b"{}", headers=None):
        began = boot_time()
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection("127.0.0.1", self.port)
            answer = await self.exchange(path, method, body, headers or {})
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            answer = Answer(0, error=f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            self.close()
            raise
        answer.began, answer.ended = began, boot_time()
        return answer

    async def exchange(self, path, method, body, headers):
        reader, writer = self.streams
        lines = {"Host": "service", "Content-Length": len(body)} | headers
        head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest if line)}
        content = await reader.readexactly(int(found.get("content-length", 0)))
        if found.get("connection") == "close":
            self.close()
        return Answer(int(first.split()[1]), found, json.loads(content) if content else None)

    def close(self):
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


def send(port, path=INFER, *, times=1, at_once=1, **request):
    """Answers to `times` equal requests, `at_once` of them in flight."""

    async def worker(todo):
        connection = Connection(port)
        answers = [await connection.send(path, **request) for _ in todo]
        connection.close()
        return answers

    async def all_of_them():
        return await asyncio.gather(*(worker(range(n, times, at_once)) for n in range(at_once)))

    answers = [answer for some in asyncio.run(all_of_them()) for answer in some]
    return answers[0] if times == 1 else answers


class Load:
    """Requests at a steady rate from a thread, until the `with` block ends."""

    def __init__(self, port, *, rate=300, connections=16):
        self.port, self.rate, self.connections = port, rate, connections
        self.answers = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    @property
    def failed(self):
        return [answer for answer in self.answers if answer.status != 200]

    async def _run(self):
        await asyncio.gather(*(self._worker(number) for number in range(self.connections)))

    async def _worker(self, number):
        connection, interval = Connection(self.port), self.connections / self.rate
        due = boot_time() + number / self.rate
        while not self._stop.is_set():
            await asyncio.sleep(max(due - boot_time(), 0))
            due = max(due + interval, boot_time() - 1)
            self.answers.append(await connection.send())
        connection.close()
