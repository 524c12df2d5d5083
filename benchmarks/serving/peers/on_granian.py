"""JSON in, JSON out, no model: what HTTP alone costs; bare ASGI with orjson on granian."""

import sys
from pathlib import Path

import orjson
from granian.constants import Interfaces
from granian.server.embed import Server

ANSWER = {
    "model_name": "reference",
    "model_version": "0" * 64,
    "outputs": [
        {"name": name, "datatype": "FP32", "shape": [1], "data": [0.12345678]} for name in ("logit", "score")
    ],
}  # fmt: skip
HEADERS = [(b"content-type", b"application/json")]


async def app(scope, receive, send):
    """Read the body, parse it, answer with as much as a model server would."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if body:
        orjson.loads(body)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": orjson.dumps(ANSWER)})


if __name__ == "__main__":
    import asyncio

    Path(sys.argv[1]).stat()
    server = Server(app, port=int(sys.argv[2]), interface=Interfaces.ASGINL, log_enabled=False, websockets=False)
    asyncio.run(server.serve())
