"""Ten thousand requests that nobody meant to send: no crash, no 5xx but 503, no traceback, right answers afterwards.

Seeded: a failure names the bytes that were sent, and comes again.
"""

import asyncio
import contextlib
import copy
import json
import random
from collections import Counter

import numpy as np
import pytest

from tests.release.server import bundles
from tests.release.server.running import INFER, request, serving

COUNT, CONNECTIONS, LIMIT = 10_000, 8, 20_000
VALUES = [
    None, True, False, 0, 1, -1, 4, 2**31, 2**63, -(2**63), 2**64, 10**40, 0.5, -0.0, 1e38, 1e39, 1e308, 5e-324,
    "", "numeric", "FP32", "INT64", "BYTES", "\x00", "é" * 50, "x" * 3000, [], [[]], [1], [None], ["a"], [[1], [2, 3]],
    [[[[1]]]], {}, {"a": 1}, {"name": "score"}, {"binary_data": True}, {"binary_data_size": 16}, [1.0] * 500,
]  # fmt: skip
PATHS = [
    INFER, INFER, INFER, "/v2", "/", "/v2/health/ready", "/v2/models/%2e%2e/infer", "/v2/models//infer", INFER + "/",
    INFER + "?x=1", INFER + "?" + "y" * 5000, "/v2/models/" + "z" * 2000, "/%00", "/%ff", "*", "http://x" + INFER,
    "/v2/models/shop/risk/versions/1/infer", "/metrics", INFER.upper(), "/v2/../v2",
]  # fmt: skip
METHODS = [
    b"POST",
    b"POST",
    b"POST",
    b"GET",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"QQ",
    b"post",
]
HEADERS = [
    b"Inference-Header-Content-Length: 10", b"Inference-Header-Content-Length: -5",
    b"Inference-Header-Content-Length: 99999999999999999999999", b"Inference-Header-Content-Length: ",
    b"X-Request-Timeout-Ms: 0", b"X-Request-Timeout-Ms: x", b"X-Request-Timeout-Ms: 60000",
    b"X-Request-Id: " + b"i" * 4000, b"X-Request-Id: \xff\xfe", b"X-Request-Id: a\tb", b"X-Request-Id:",
    b"Host: a-shadow:80", b"Host: ", b"Content-Type: text/html", b"Content-Encoding: gzip", b"Accept: */*",
    b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade", b"Upgrade: websocket",
    b"Cookie: " + b"c" * 9000, b"Content-Length: 3", b"Content-Length: x", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Bad Header: 1", b"No colon", b"\x00: 1",
]  # fmt: skip


def usual(draw):
    """A request that is right, of one of its kinds."""
    rows = draw.choice([1, 1, 2, 5])
    asked = request(rows, value=draw.uniform(-5, 5))
    if draw.random() < 0.3:
        asked["id"] = str(draw.random())
    if draw.random() < 0.3:
        asked["outputs"] = [{"name": draw.choice(["score", "logit"])}]
    return asked


def places(value, path=()):
    """Paths to all parts of a JSON value."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children)[:8]:
        yield from places(child, (*path, key))


def mutated(draw, asked):
    """One to three parts replaced, removed or doubled."""
    asked = copy.deepcopy(asked)
    for _ in range(draw.randint(1, 3)):
        found = list(places(asked))
        if not found:
            break
        *path, key = draw.choice(found)
        place = asked
        for step in path:
            place = place[step]
        kind = draw.random()
        if kind < 0.7:
            place[key] = copy.deepcopy(draw.choice(VALUES))
        elif kind < 0.9:
            del place[key]
        elif isinstance(place, list):
            place.append(place[key])
    return asked


def damaged(draw, body):
    """Bytes flipped, removed, doubled or cut off."""
    body = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(body)) if body else 0
        kind = draw.randrange(4)
        if kind == 0 and body:
            body[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del body[at : at + draw.randint(1, 9)]
        elif kind == 2:
            body[at:at] = body[at : at + draw.randint(1, 40)]
        elif draw.random() < 0.3:
            del body[at:]
    return bytes(body)


def raw_tensors(draw):
    """Header and body of a request with raw tensors, lengths a little off or not."""
    off = draw.choice([0, 0, 0, -1, 1, 16, -16, 10**6])
    asked = request()
    for one, size in zip(asked["inputs"], (16, 16), strict=True):
        del one["data"]
        one["parameters"] = {"binary_data_size": size + draw.choice([0, 0, 0, off])}
    if draw.random() < 0.3:
        asked["parameters"] = {"binary_data_output": draw.choice([True, False, 1])}
    text = json.dumps(mutated(draw, asked) if draw.random() < 0.2 else asked).encode()
    tail = np.array([draw.choice([np.nan, np.inf, 1.0])] * 4, "<f4").tobytes() + draw.randbytes(16)
    return b"Inference-Header-Content-Length: %d" % (len(text) + draw.choice([0, 0, off])), text + tail


def fuzzed(draw):
    """One request: its bytes, and whether they are one whole request, whose answer must come."""
    method, path, headers, body = b"POST", INFER, [], json.dumps(usual(draw)).encode()
    kind = draw.randrange(8)
    if kind in (1, 2):
        body = json.dumps(mutated(draw, usual(draw)), ensure_ascii=draw.random() < 0.5).encode()
    elif kind == 3:
        body = damaged(draw, body)
    elif kind == 4:
        header, body = raw_tensors(draw)
        headers.append(header)
    elif kind == 5:
        method, path = draw.choice(METHODS), draw.choice(PATHS)
    elif kind == 6:
        headers += draw.sample(HEADERS, draw.randint(1, 3))
    elif draw.random() < 0.1:
        body = body.ljust(draw.choice([LIMIT - 1, LIMIT, LIMIT + 1, 10 * LIMIT]))
    lines = [b"%s %s HTTP/1.1" % (method, path.encode()), b"Host: x", *headers, b"Content-Length: %d" % len(body)]
    data = b"\r\n".join(lines) + b"\r\n\r\n" + body
    if kind == 7 and draw.random() < 0.5:
        return draw.choice([data[: draw.randrange(len(data))], damaged(draw, data[:200]) + data[200:], body]), False
    return data, kind != 6 and method != b"HEAD"


async def answer(reader):
    """(status, body) of the next answer; None where the server closes instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 1"):
            head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return int(head[9:12]), fields, await reader.readexactly(int(fields.get(b"content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def bombard(port, count, seed):
    """Send `count` fuzzed requests, one after the other; (bytes sent, answer) of each."""
    draw, seen, writer = random.Random(seed), [], None
    for _ in range(count):
        data, whole = fuzzed(draw)
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = None
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(data)
            await writer.drain()
            # What is not whole may leave the server waiting for more.
            found = await asyncio.wait_for(answer(reader), 60 if whole else 0.3)
        seen.append((data, found))
        if not whole or found is None or found[1].get(b"connection") == b"close":
            await close(writer)
            writer = None
    if writer:
        await close(writer)
    return seen


async def close(writer):
    """Without waiting for what was not sent."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture(scope="module")
def barrage(tmp_path_factory):
    """A server, and all that was sent to it with what came back."""
    bundle = bundles.pack(tmp_path_factory.mktemp("fuzz"))
    with serving(bundle, "--body-bytes", LIMIT, "--queue", 4) as server:
        server.infer(request())

        async def all_of_it():
            parts = [bombard(server.port, COUNT // CONNECTIONS, seed) for seed in range(CONNECTIONS)]
            return [one for part in await asyncio.gather(*parts) for one in part]

        yield server, asyncio.run(all_of_it())


def test_no_answer_is_a_5xx_but_503(barrage):
    _, seen = barrage
    assert len(seen) == COUNT
    wrong = [(data[:500], found) for data, found in seen if found and found[0] >= 500 and found[0] != 503]
    assert not wrong


def test_requests_that_are_whole_are_answered(barrage):
    _, seen = barrage
    statuses = Counter(found[0] for _, found in seen if found)
    assert sum(statuses.values()) > 0.9 * COUNT
    assert statuses[200] > 0.2 * COUNT
    assert statuses[400] > 0.2 * COUNT
    assert {404, 405, 413} <= set(statuses)


def test_every_refusal_of_an_inference_is_a_json_sentence(barrage):
    _, seen = barrage
    bodies = [
        body for _, found in seen if found for status, fields, body in [found] if status in (400, 413, 503) and body
    ]
    assert len(bodies) > 0.2 * COUNT
    for body in bodies:
        sentence = json.loads(body)
        assert set(sentence) == {"error"}
        assert 0 < len(sentence["error"]) < 400


def test_nothing_but_its_start_is_on_stderr(barrage):
    server, _ = barrage
    assert server.process.poll() is None
    assert len(server.told.splitlines()) == 1


def test_server_answers_rightly_afterwards_and_holds_nothing(barrage, server):
    fuzzed_server, _ = barrage
    assert fuzzed_server.infer(request(3)) == server.infer(request(3))
    assert fuzzed_server.metric("switchback_server_in_flight_requests") == 0
    assert fuzzed_server.metric("switchback_server_queue_requests") == 0
