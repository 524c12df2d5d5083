"""`switchback serve`: the supervisor in this process, the controller as its child."""

import os
import re
import sys
from pathlib import Path

from ci_tools.errors import ConfigError
from ci_tools.release.bundle import trust
from ci_tools.release.bundle.keys import load_public
from ci_tools.release.home import LONGEST_SOCKET, Home
from ci_tools.release.judge import policy
from ci_tools.release.supervisor.server import free_port
from ci_tools.release.supervisor.settings import SERVER, Settings
from ci_tools.release.supervisor.supervisor import Supervisor


def serve(
    home: Path,
    port: int,
    api_port: int = 0,
    api_hosts: tuple[str, ...] = (),
    rules: Path = policy.FILE,
    public_keys: tuple[Path, ...] = (),
    controller_settings: Path | None = None,
    identity: str = "",
    issuer: str = "",
    trust_config: Path | None = None,
    address: str = "127.0.0.1",
    memory_mb: int = 8192,
) -> None:
    """Run until SIGTERM or Ctrl-C; no process is left then.

    Raises:
        ConfigError: a setting breaks a rule, the port is taken, or another service has the folder.
        DependencyUnavailable: Envoy is not installed.
    """
    # What is broken is told before anything starts: the controller would be started again and again.
    if api_port and api_port == port:
        fix = "choose another for one of them"
        raise ConfigError(f"both are {port}", where="--port, --api-port", rule="each has its own", fix=fix)
    _check_hosts(api_port, api_hosts)
    if (length := len(os.fsencode(Home(home).socket))) > LONGEST_SOCKET:
        rule = f"the path of a socket has {LONGEST_SOCKET} at most"
        raise ConfigError(f"is {length} bytes long", where=Home(home).socket, rule=rule, fix="name a shorter --home")
    if rules != policy.FILE and not rules.exists():
        fix = "name another, or leave --policy out for the defaults"
        raise ConfigError("no such file", where=rules, rule="a policy that is named is there", fix=fix)
    policy.load(rules)
    for key in public_keys:
        load_public(key)
    trust.named(public_keys, identity, issuer, trust_config)
    if trust_config and not trust_config.is_file():
        raise ConfigError(
            "no such file", where=trust_config, fix="name Sigstore's trust configuration, or leave it out"
        )
    trusted = [word for key in public_keys for word in ("--trust-key", str(key.resolve()))]
    trusted += ["--trust-identity", identity] if identity else []
    trusted += ["--trust-issuer", issuer] if issuer else []
    trusted += ["--trust-config", str(trust_config.resolve())] if trust_config else []
    controller = [sys.executable, "-P", "-m", "ci_tools.release.controller", "--home", str(home)]
    controller += ["--policy", str(rules)]
    controller += ["--api-port", str(api_port)] if api_port else []
    controller += [word for host in api_hosts for word in ("--api-host", host)]
    controller += ["--settings", str(controller_settings)] if controller_settings else []
    settings = Settings(
        address=address,
        server_command=(*SERVER, *trusted, "--memory-mb", str(memory_mb)),
        controller_command=(*controller, *trusted),
        api_port=api_port,
        server_megabytes=memory_mb,
    )
    Supervisor(Home(home), port=port or free_port(set()), settings=settings).run()


def _check_hosts(api_port: int, hosts: tuple[str, ...]) -> None:
    if hosts and not api_port:
        rule = "a proxy reaches the control API by a port"
        raise ConfigError("is of no use without --api-port", where="--api-host", rule=rule, fix="give --api-port, too")
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
            fix = "give it as release.example.com"
            raise ConfigError(f"{host!r} is none", where="--api-host", rule="a name without scheme and port", fix=fix)
