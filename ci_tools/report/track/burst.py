"""Rows handed to W&B's client together.

For each row, `run.log` wakes another thread, waits for it, and that thread wakes W&B's own process. Beside a training
that wants every core, each of them waits for its turn and finds cold caches: such a row costs three times one of a
burst. W&B has no public call for several rows, so that this takes private names of the client that
pyproject.toml pins; a client without them gets row by row.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PRIVATE = ("_publish", "_asyncer", "_client", "_assign")
"""Of the interface between a run and W&B's own process."""


@contextmanager
def together(run: Any) -> Iterator[None]:
    """Hold back what the body logs, and hand it over in the end, in its order.

    The body may log numbers and histograms. Media and artifacts wait for answers, and would overtake what is held.
    """
    from wandb.proto.wandb_server_pb2 import ServerRequest  # type: ignore[attr-defined] # made when imported

    interface: Any = getattr(run, "_interface", None)
    if not all(hasattr(interface, name) for name in PRIVATE):
        yield
        return
    held: list[ServerRequest] = []

    def hold(record: Any, *, nowait: bool = False) -> None:
        interface._assign(record)
        held.append(ServerRequest(record_publish=record))

    async def hand_over() -> None:
        for request in held:
            await interface._client.publish(request)

    def let_go() -> None:
        del interface._publish
        if held:
            interface._asyncer.run(hand_over)

    interface._publish = hold
    try:
        yield
    except BaseException:
        with suppress(Exception):  # it would take the place of what ended the body, a Ctrl-C for instance
            let_go()
        raise
    let_go()
