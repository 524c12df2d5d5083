"""What a service tells whoever started it: where it listens, and when it answers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from ci_tools.console import say
from ci_tools.release.home import DEFAULT, Home
from ci_tools.release.plan import Health, Member, Plan, Role
from ci_tools.release.supervisor.settings import Settings

_EVERY = 0.1
"""Seconds between two looks."""
_READY = "ready: bundle"


def addresses(home: Home, settings: Settings, port: int) -> list[str]:
    """Where to ask, as lines for a person."""
    named = "" if home.path == DEFAULT else f" --home {home.path}"
    token = home.path / "token"
    page = (
        f"status page: http://127.0.0.1:{settings.api_port}/?token=TOKEN, with what stands in {token}"
        if settings.api_port
        else f"status page: none, --api-port PORT opens it; `switchback status{named}` tells the same"
    )
    clients = f"clients: {address(settings, port)}, Open Inference Protocol v2"
    return [clients, page, "to stop: Ctrl-C or SIGTERM; requests under way are answered first"]


def address(settings: Settings, port: int) -> str:
    """Of the clients' listener, as a URL."""
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"http://{host}:{port}"


async def announce(home: Home, url: str, plan: Callable[[], Plan | None], members: Callable[[], list[Member]]) -> None:
    """Say when the controller answers, and when the first champion does; end then.

    Args:
        home: of the service.
        url: of the clients' listener.
        plan: what is to be served, now.
        members: the model servers, now.
    """
    told = ""
    while not told.startswith(_READY):
        now = _standing(home, url, plan(), members()) if await _answers(home.socket) else ""
        if now and now != told:
            say(now)
            told = now
        await asyncio.sleep(_EVERY)


def _standing(home: Home, url: str, plan: Plan | None, members: list[Member]) -> str:
    bundle = plan.pools.get(Role.STABLE, "") if plan else ""
    if not bundle:
        return "ready: nothing is served yet; `switchback release BUNDLE` makes the first bundle champion at once"
    if any(one.bundle == bundle and one.role is Role.STABLE and one.health is Health.READY for one in members):
        return f"{_READY} {bundle[:12]} answers POST {url}/v2/models/{_name(home.bundles / bundle)}/infer"
    return ""


def _name(bundle: Path) -> str:
    """Of the model; its server has checked the manifest."""
    try:
        return str(json.loads((bundle / "manifest.json").read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "NAME"


async def _answers(socket: Path) -> bool:
    """Whether the controller listens: a dead one leaves its socket's file."""
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True
