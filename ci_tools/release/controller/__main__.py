"""The controller as a process of its own, started by the supervisor; `--help` shows its options."""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ci_tools import config
from ci_tools.errors import run_stage
from ci_tools.release.api import LOOPBACK, app
from ci_tools.release.bundle import trust
from ci_tools.release.controller import bundles, loop, serving
from ci_tools.release.controller.controller import Controller, Surroundings
from ci_tools.release.controller.serving import Serving
from ci_tools.release.controller.settings import Settings
from ci_tools.release.home import DEFAULT, Home
from ci_tools.release.judge import policy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci_tools.release.controller", description=__doc__)
    parser.add_argument("--home", type=Path, default=DEFAULT, help="folder of the release service")
    parser.add_argument("--policy", type=Path, default=policy.FILE, help="release.yaml")
    parser.add_argument("--settings", type=Path, help="YAML file with settings of the controller")
    parser.add_argument("--api-port", type=int, default=0, help="also serve the control API on 127.0.0.1, with a token")
    parser.add_argument("--api-host", action="append", default=[],
                        help="name under which a proxy passes requests on to that port, may be repeated")  # fmt: skip
    parser.add_argument("--trust-key", type=Path, action="append", default=[],
                        help="public key whose signatures count, may be repeated; else one's own")  # fmt: skip
    parser.add_argument("--trust-identity", default="", help="identity whose signatures count, by Sigstore")
    parser.add_argument("--trust-issuer", default="", help="who vouches for that identity")
    parser.add_argument("--trust-config", type=Path, help="Sigstore's own keys and addresses, as a file")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    before = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return run_stage(lambda: _run(options, stop))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace, stop: threading.Event) -> None:
    settings = config.load(options.settings, Settings) if options.settings else Settings()
    policy.load(options.policy)  # a broken file is told now, not at the first release
    home = Home(options.home)
    trusted = trust.named(
        tuple(options.trust_key), options.trust_identity, options.trust_issuer, options.trust_config, trust.SERVICE
    )
    verify, keep = partial(bundles.verified, trusted=trusted), partial(bundles.kept, trusted=trusted)
    around = Surroundings(policy=options.policy, settings=settings, verify=verify, keep=keep)
    controller = Controller(home, around)
    served: list[Serving] = []
    try:
        served.append(Serving(app(controller, None), serving.unix(home.socket)))
        if options.api_port:
            calls = app(controller, serving.token(home), hosts=(*LOOPBACK, *options.api_host))
            served.append(Serving(calls, serving.loopback(options.api_port)))
        worker = threading.Thread(target=loop.run, args=(controller, settings.tick_seconds, stop), name="loop")
        worker.start()
        stop.wait()
        worker.join()
    finally:
        for one in served:
            one.stop()
        controller.close()


if __name__ == "__main__":
    sys.exit(main())
