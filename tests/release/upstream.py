"""A model server that does as it is told: says who it is, or crashes, hangs, resets, answers 5xx, slowly or NaN.

    python upstream.py --bundle DIR --member NAME --port N --predictions FILE

It behaves as DIR/upstream.json says; `POST /behave` changes that while it runs.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

REASONS = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}


class Upstream:
    def __init__(self, options):
        self.options, self.bundle = options, Path(options.bundle)
        told = self.bundle / "upstream.json"
        self.behaviour = json.loads(told.read_text()) if told.exists() else {}
        self.count, self.busy, self.open = 0, 0, set()
        self.predictions = os.open(options.predictions, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def connected(self, reader, writer):
        self.open.add(writer)
        try:
            while head := await self.head(reader):
                self.busy += 1
                try:
                    await self.answer(reader, writer, *head)
                    await writer.drain()
                finally:
                    self.busy -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open.discard(writer)
            writer.close()

    async def head(self, reader):
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:] if line)}
        return (*lines[0].split()[:2], headers)

    async def answer(self, reader, writer, method, path, headers):
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path == "/v2/health/ready":
            await self.pause("ready")
            return self.send(writer, 503 if self.behaviour.get("ready") == "no" else 200)
        if path == "/behave":
            self.behaviour = json.loads(body)
            return self.send(writer, 200)
        self.count += 1
        answer = self.behaviour.get("answer", "ok") if self.count > self.behaviour.get("after", 0) else "ok"
        told = {"member": self.options.member, "bundle": self.bundle.name, "id": headers.get("x-request-id", "")}
        shown = told | {"mirror": headers.get("host", "").endswith("-shadow"), "headers": headers, "count": self.count}
        line = told | {"mirror": shown["mirror"], "t": time.time()}
        os.write(self.predictions, (json.dumps(line) + "\n").encode())
        if answer == "crash":
            os._exit(3)
        if answer == "reset":
            writer.transport.abort()
            raise ConnectionResetError
        if answer == "partial":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.transport.abort()
            raise ConnectionResetError
        await self.pause("answer")
        await asyncio.sleep(self.behaviour.get("seconds", 0))
        extra = {"x-switchback-event": "invalid_outputs"} if answer == "invalid" else {}
        return self.send(writer, 500 if answer == "error" else 200, shown | {"bytes": len(body)}, extra)

    async def pause(self, what):
        while self.behaviour.get(what) == "hang":
            await asyncio.sleep(0.05)

    def send(self, writer, status, told=None, extra=None):
        body = json.dumps(told or {}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": len(body), "x-member": self.options.member}
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{k}: {v}" for k, v in (headers | (extra or {})).items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def serve(self):
        start = self.behaviour.get("start", "ok")
        if start == "crash":
            sys.exit("it does not feel like it")
        if start == "refuse":
            sys.stderr.write("error: bundle was changed\n")
            sys.exit(2)
        await asyncio.sleep(self.behaviour.get("start_seconds", 0))
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await asyncio.start_server(self.connected, "127.0.0.1", self.options.port)
        await stop.wait()
        server.close()
        while self.busy:
            await asyncio.sleep(0.01)
        for writer in list(self.open):
            writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--bundle", "--member", "--predictions"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(Upstream(parser.parse_args()).serve())
