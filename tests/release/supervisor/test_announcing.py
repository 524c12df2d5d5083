"""What a service says of itself when it starts, and when it answers."""

import asyncio
import json

import pytest

from ci_tools.release.home import DEFAULT, Home
from ci_tools.release.plan import Health, Member, Plan, Role
from ci_tools.release.supervisor import Settings, announcing

FIRST = "a" * 64


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "bundles" / FIRST
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"name": "fraud"}))
    return Home(tmp_path)


def member(health):
    return Member(name="m1", role=Role.STABLE, bundle=FIRST, health=health, port=1, pid=1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["http://127.0.0.1:8000,", "none, --api-port PORT opens it", "Ctrl-C or SIGTERM"]),
        ({"api_port": 8070, "address": "::1"}, ["http://[::1]:8000,", "http://127.0.0.1:8070/?token=", "Ctrl-C"]),
    ],
)
def test_addresses_say_where_to_send_where_to_look_and_how_to_stop(settings, expected):
    lines = announcing.addresses(Home(), Settings(**settings), 8000)
    assert all(part in line for part, line in zip(expected, lines, strict=True))


def test_command_that_tells_the_same_names_a_home_of_its_own(tmp_path):
    assert f"`switchback status --home {tmp_path}`" in announcing.addresses(Home(tmp_path), Settings(), 1)[1]
    assert "`switchback status`" in announcing.addresses(Home(DEFAULT), Settings(), 1)[1]


def announced(home, monkeypatch, *steps):
    """What is said while plan and members are those of each step in turn; the controller answers from the second on."""
    said, left = [], list(steps)
    monkeypatch.setattr(announcing, "say", said.append)
    monkeypatch.setattr(announcing, "_EVERY", 0.0)

    async def run():
        server = None
        async with asyncio.timeout(30):
            work = asyncio.create_task(announcing.announce(home, "http://x", lambda: left[0][0], lambda: [*left[0][1]]))
            while not work.done():
                for _ in range(20):
                    await asyncio.sleep(0.001)
                if server is None:
                    assert said == []
                    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), home.socket)
                elif len(left) > 1:
                    left.pop(0)
            server.close()

    asyncio.run(run())
    return said


def test_ready_is_said_once_the_controller_and_the_champion_answer(home, monkeypatch):
    plan = Plan(serial=1, pools={Role.STABLE: FIRST})
    steps = [(None, ()), (plan, (member(Health.STARTING),)), (plan, (member(Health.READY),))]
    assert announced(home, monkeypatch, *steps) == [
        "ready: nothing is served yet; `switchback release BUNDLE` makes the first bundle champion at once",
        f"ready: bundle {FIRST[:12]} answers POST http://x/v2/models/fraud/infer",
    ]


def test_service_that_has_a_champion_does_not_say_that_it_has_none(home, monkeypatch):
    plan = Plan(serial=1, pools={Role.STABLE: FIRST})
    (line,) = announced(home, monkeypatch, (plan, (member(Health.STARTING),)), (plan, (member(Health.READY),)))
    assert line.startswith("ready: bundle")
