"""Rows of the test split as requests, sent at a steady rate whatever comes back."""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import numpy as np
import orjson

from ci_tools.errors import DataError
from ci_tools.release.bundle import Manifest

ROWS = 500
"""Requests that are made; they are sent again and again."""
AT_ONCE = 64
"""Requests without an answer beyond which further ones wait."""
SECONDS = 10.0
"""For one answer."""


def requests(rows: Path, manifest: Manifest) -> list[bytes]:
    """Bodies of the Open Inference Protocol, one row each.

    Args:
        rows: .npz file whose arrays carry the names of the model's inputs, rows along the first axis.
        manifest: of the model.

    Raises:
        DataError: the file is missing, or an input is not among its arrays.
    """
    try:
        with np.load(rows, allow_pickle=False) as file:
            arrays = {one.name: file[one.name][:ROWS] for one in manifest.inputs}
    except (OSError, KeyError, ValueError) as error:
        rule = f"arrays named {', '.join(one.name for one in manifest.inputs)}"
        raise DataError(
            f"has no requests to replay ({error})", where=rows, rule=rule, fix="run the data stage"
        ) from None
    bodies = []
    for row in range(min(map(len, arrays.values()))):
        inputs = [
            {
                "name": one.name,
                "datatype": one.datatype,
                "shape": [1, *arrays[one.name].shape[1:]],
                "data": arrays[one.name][row].ravel().tolist(),
            }
            for one in manifest.inputs
        ]
        bodies.append(orjson.dumps({"inputs": inputs}))  # NaN, a missing value, becomes null
    return bodies


class Replay:
    """A thread that sends requests until it is left; counts what came back."""

    def __init__(self, port: int, model: str, bodies: Sequence[bytes], per_second: float) -> None:
        """`port`: Envoy's, on loopback; `model`: its name."""
        self._url = f"http://127.0.0.1:{port}/v2/models/{model}/infer"
        self._bodies, self._per_second = bodies, per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="replay", daemon=True)
        self.answered = 0
        self.failed = 0
        """Answers other than 200, and requests without an answer."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        async with httpx.AsyncClient(limits=limits, timeout=SECONDS) as client, asyncio.TaskGroup() as group:
            free = asyncio.Semaphore(AT_ONCE)
            due = asyncio.get_running_loop().time()
            for body in itertools.cycle(self._bodies):
                if self._stop.is_set():
                    break
                await free.acquire()
                group.create_task(self._ask(client, body, free))
                due += 1 / self._per_second
                await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))

    async def _ask(self, client: httpx.AsyncClient, body: bytes, free: asyncio.Semaphore) -> None:
        try:
            answer = await client.post(self._url, content=body, headers={"content-type": "application/json"})
            self.answered += answer.status_code == httpx.codes.OK
            self.failed += answer.status_code != httpx.codes.OK
        except httpx.HTTPError:
            self.failed += 1
        finally:
            free.release()
