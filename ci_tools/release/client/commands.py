"""The commands of a release service's client, as functions; each returns a result with text, JSON and an exit code."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ci_tools.console import on_terminal, progress, quiet, say
from ci_tools.errors import ConfigError, DependencyUnavailable, SwitchbackError
from ci_tools.release.client.actor import actor as who
from ci_tools.release.client.connection import Address, Connection
from ci_tools.release.client.follow import answering, follow, states, submit
from ci_tools.release.client.pace import expected
from ci_tools.release.client.results import Ordered, Released, Shown
from ci_tools.release.control import Phase, Result, Status

if TYPE_CHECKING:
    from ci_tools.release.bundle import Trust

Order = Literal["pause", "resume", "rollback", "promote"]
PATIENCE = 60.0
"""Seconds that a service which does not answer is waited for."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{8,63}")
"""Of a digest, as `status` shows it."""


def release(
    bundle: str,
    address: Address,
    *,
    trust: "Trust | None" = None,
    actor: str = "",
    again: bool = False,
    patience: float = PATIENCE,
) -> Released:
    """Add a bundle to the registry, begin its canary and follow it to its verdict.

    The same call once more joins the release that is on its way, or tells how it ended. Ctrl-C ends the following, not
    the release.

    Args:
        bundle: folder of the bundle, or the digest of one that the registry has, of which the beginning will do.
        address: of the service; a folder is sent to one at a URL.
        trust: whose signatures count; none: this user's own.
        actor: who releases; see `actor.actor`.
        again: begin anew where the bundle was the last one and was rolled back.
        patience: seconds that a service which does not answer is waited for.

    Raises:
        DependencyUnavailable: the service does not answer, or the server of its first bundle.
        ConfigError: the service refuses.
        DataError: the bundle is not what a trusted signer signed.
    """
    name = who(actor)
    digest = bundle if _DIGEST.fullmatch(bundle) else _known(bundle, address) or _add(Path(bundle), address, trust)
    with Connection(address) as connection:
        looks = states(connection, patience, say)
        before = next(looks)
        now = submit(connection, digest, name, patience, say, again)
        if _reigns(before, digest):
            answering(looks, before, now)
            return Released(release=now, already=True)
        if before.release and before.release.id == now.id and now.result is Result.ROLLED_BACK:
            return Released(release=now, decision=before.decision, already=True)
        try:
            if now.result is None and now.phase is not Phase.WATCHING:
                say(f"release {now.id} of bundle {digest[:12]}")
                for sentence in expected(now, before.per_second):
                    say(sentence)
            with progress(100, "evidence, %") if on_terminal() and not quiet() else nullcontext() as bar:
                status = follow(connection, now, patience=patience, tell=say, bar=bar)
        except KeyboardInterrupt:
            return Released(release=now, interrupted=True)
    return Released(release=status.release or now, decision=status.decision)


def status(address: Address, *, verify: bool = False) -> Shown:
    """What is going on; with `verify`, also whether every event of the ledger fits the one before.

    A ledger can be verified without its service: it is a file.

    Raises:
        DependencyUnavailable: the service does not answer, and nobody asked for the ledger.
        ConfigError: the ledger of a service elsewhere is asked for.
    """
    if verify and address.url:
        raise ConfigError("reads the ledger's file", where="--verify", rule="that of a service at --url is elsewhere",
                          fix="run `switchback status --verify` on its machine")  # fmt: skip
    verified, wrong = _verified(address) if verify else (None, None)
    try:
        with Connection(address) as connection:
            return Shown(status=connection.status(), verified=verified, error=wrong)
    except DependencyUnavailable as error:
        if verify:
            return Shown(status=None, verified=verified, error=wrong or error)
        raise


def order(name: Order, address: Address, *, reason: str, actor: str = "") -> Ordered:
    """Pause, resume, roll back or promote, with a reason for the ledger.

    Raises:
        DependencyUnavailable: the service does not answer.
        ConfigError: it makes no sense now; the message says what would.
    """
    if not reason.strip():
        raise ConfigError("a reason is missing", where="--reason", rule="the ledger keeps why", fix="say why in a line")
    with Connection(address) as connection:
        return Ordered(status=connection.order(name, who(actor), reason.strip()))


def _reigns(status: Status, digest: str) -> bool:
    """Whether a bundle was champion before anybody asked, and is not watched any more."""
    course = status.release
    under_way = course is not None and course.bundle == digest and course.phase is not Phase.IDLE
    return status.champion == digest and not under_way


def _known(beginning: str, address: Address) -> str:
    """Digest of the one bundle of the registry on this machine that begins so; empty where none does.

    Raises:
        ConfigError: several do.
    """
    if address.url or not _BEGINNING.fullmatch(beginning) or Path(beginning).exists():
        return ""
    from ci_tools.release.registry import Registry

    found = [digest for digest in Registry(address.home.bundles).digests() if digest.startswith(beginning)]
    if len(found) > 1:
        raise ConfigError(f"{len(found)} bundles begin with {beginning}", where=address.home.bundles,
                          fix="give more of the digest")  # fmt: skip
    return found[0] if found else ""


def _add(path: Path, address: Address, trust: "Trust | None") -> str:
    if address.url:
        if not path.is_dir():
            fix = "name the folder of a bundle, or the whole digest of one that the service has"
            raise ConfigError("is no digest and no folder", where=path, fix=fix)
        with Connection(address) as connection:
            return connection.add(path)
    from ci_tools.release.registry import Registry

    return Registry(address.home.bundles).add(path, trust).digest


def _verified(address: Address) -> tuple[int | None, SwitchbackError | None]:
    """Number of events, or what does not fit."""
    from ci_tools.release.ledger import Ledger

    try:
        with Ledger(address.home.ledger, readonly=True) as ledger:
            return ledger.verify(), None
    except SwitchbackError as error:
        return None, error
