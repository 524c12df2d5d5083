"""Headless Chromium, spoken to by the DevTools protocol over a pipe: no driver, no port, no network."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
"""Empty where none is installed."""
_SECONDS = 60.0
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--no-default-browser-check", "--mute-audio",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Tab:
    """One page that was opened."""

    def __init__(self, pipe: "_Pipe", session: str) -> None:
        self._pipe, self._session = pipe, session
        self.open_seconds = 0.0
        """From the start of loading until two frames after the load event were drawn."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command, its result."""
        return self._pipe.call(method, parameters, self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """What the page wrote to the console, what it threw, and what its policy refused."""
        told = []
        for event in self._pipe.events[self._session]:
            values = event.get("params", {})
            if event["method"] == "Runtime.consoleAPICalled":
                told.append(" ".join(str(one.get("value", one.get("description"))) for one in values["args"]))
            elif event["method"] == "Runtime.exceptionThrown":
                told.append(json.dumps(values["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                told.append(values["entry"]["text"])
        return told

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for."""
        sent = [one for one in self._pipe.events[self._session] if one["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


class Browser:
    """A running Chromium."""

    def __init__(self, pipe: "_Pipe") -> None:
        self._pipe = pipe

    @contextmanager
    def opened(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False,
        scripts: bool = True,
    ) -> Iterator[Tab]:  # fmt: skip
        """A page from a file, drawn.

        Args:
            path: of the HTML file.
            width: of the window, in CSS pixels.
            height: of the window.
            dark: whether the reader prefers dark colours.
            phone: whether it is a touch screen with twice the pixels.
            scripts: whether JavaScript is on.
        """
        target = self._pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self._pipe, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        scale = 2 if phone else 1
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        tab.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        start = time.perf_counter()
        tab.call("Page.navigate", url=path.resolve().as_uri())
        self._pipe.wait_for("Page.loadEventFired", session)
        if scripts:
            tab.settle()
        tab.open_seconds = time.perf_counter() - start
        try:
            yield tab
        finally:
            self._pipe.call("Target.closeTarget", {"targetId": target})


@contextmanager
def started() -> Iterator[Browser]:
    """A Chromium of one's own, with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, _process(profile) as pipe:
        yield Browser(pipe)


class _Pipe:
    """Commands down one pipe, answers and events up another, each a JSON object that ends in a zero byte."""

    def __init__(self, down: int, up: int) -> None:
        self._down, self._up, self._rest, self._count = down, up, b"", 0
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """By session."""

    def call(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        text = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while text:
            text = text[os.write(self._down, text) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._keep(answer)

    def wait_for(self, method: str, session: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while all(event["method"] != method for event in self.events[session]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {method} within {_SECONDS:.0f} s")
            self._keep(self._next())

    def _keep(self, event: dict[str, Any]) -> None:
        self.events[event.get("sessionId", "")].append(event)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._up], [], [], _SECONDS)
            if not ready:
                raise TimeoutError(f"Chromium said nothing for {_SECONDS:.0f} s")
            chunk = os.read(self._up, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium ended")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def _process(profile: str) -> Iterator[_Pipe]:
    (their_down, down), (up, their_up) = os.pipe(), os.pipe()

    def hand_over() -> None:  # Chromium reads from 3 and writes to 4; neither end may be overwritten on the way
        os.dup2(their_down, 60)
        os.dup2(their_up, 61)
        os.dup2(60, 3)
        os.dup2(61, 4)

    command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}"]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, preexec_fn=hand_over, pass_fds=(3, 4), start_new_session=True, **quiet)
    os.close(their_down)
    os.close(their_up)
    try:
        yield _Pipe(down, up)
    finally:
        os.close(down)
        os.close(up)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
