"""One question over HTTP to a process on this machine, within a time, in an event loop of one thread."""

import asyncio


class Unanswered(Exception):
    """No answer came in time, or none that is HTTP."""


async def ask(port: int, path: str, *, seconds: float, method: str = "GET") -> tuple[int, bytes]:
    """Status and body.

    Raises:
        Unanswered: nobody listens, no whole answer came in time, or it was no HTTP.
    """
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = f"{method} {path} HTTP/1.1\r\nHost: supervisor\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            body = await _body(reader, dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line))
        return int(head.split()[1]), body
    except (OSError, EOFError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}") from error
    finally:
        if writer is not None:
            writer.close()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """Of a response, whose length is told by one of the ways of RFC 9112, 6.3."""
    if headers.get("transfer-encoding") != "chunked":
        length = headers.get("content-length")
        return await (reader.read() if length is None else reader.readexactly(int(length)))
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    return body
