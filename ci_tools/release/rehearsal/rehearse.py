"""The steps of a rehearsal: a service of its own, replayed traffic, one release that should pass and one that must not.

The champion is the model of the last rehearsal that went well, where there is one that takes the same requests; else a
second copy of the fresh one, packed apart from it.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ci_tools.console import say
from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.lock import Taken, alone
from ci_tools.release.bundle import Bundle, Manifest, Trust, open_bundle
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.packing import pack, repack
from ci_tools.release.client import Address, Released, layout, release
from ci_tools.release.control import Result
from ci_tools.release.home import Home
from ci_tools.release.judge import policy
from ci_tools.release.plan import Role
from ci_tools.release.rehearsal import service
from ci_tools.release.rehearsal.policy import PER_SECOND, shortened
from ci_tools.release.rehearsal.replay import Replay, requests
from ci_tools.release.rehearsal.spoiled import NAN, spoiled

FOLDER = Path(".switchback/rehearsal")
CHAMPION = FOLDER / "champion"
ROWS = Path("data/test.npz")
ACTOR = "rehearsal"
PATIENCE = 20.0
"""Seconds for the service to answer."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the two releases."""

    expected: Result
    result: Result | None
    """None: it did not end."""
    sentence: str
    seconds: float
    """From asking for it to the verdict."""

    @property
    def ok(self) -> bool:
        """Whether it ended as it should."""
        return self.result == self.expected

    def __str__(self) -> str:
        ended = self.result.value if self.result else "undecided"
        return f"{ended} after {self.seconds:.1f} s. {self.sentence}"


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What happened."""

    bundle: str
    """Digest of the fresh bundle."""
    fresh: Part
    spoiled: Part
    how: str
    """What was done to the spoiled copy."""
    answered: int
    lost: int
    """Requests without an answer, or with another than 200, that no answer of NaN explains."""
    refused: int
    """Requests that the spoiled copy answered with an error until it was rolled back; 0 where it gave numbers."""
    seconds: float
    """From beginning to end."""

    @property
    def exit_code(self) -> int:
        """0: both ended as they should and no request was lost; 1: not so; 3: one did not come to a verdict."""
        if self.lost or any(part.result not in (part.expected, Result.INCONCLUSIVE) for part in self._parts):
            return 1
        return 0 if all(part.ok for part in self._parts) else 3

    @property
    def _parts(self) -> tuple[Part, Part]:
        return self.fresh, self.spoiled

    def __str__(self) -> str:
        return layout.paragraphs(self.text)

    @property
    def text(self) -> str:
        """For a terminal of any width."""
        counts = f"{self.answered:,} requests answered, {self.lost} lost"
        counts += f", {self.refused} refused by the spoiled copy" if self.refused else ""
        return (
            f"release rehearsed in {self.seconds:.0f} s: {counts}\n"
            f"  {'this model:':<{len(self.how) + 1}} {self.fresh}\n"
            f"  {self.how}: {self.spoiled}"
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        parts = {
            name: {"result": part.result, "ok": part.ok, "sentence": part.sentence, "seconds": round(part.seconds, 3)}
            for name, part in (("fresh", self.fresh), ("spoiled", self.spoiled))
        }
        told = {"bundle": self.bundle, "answered": self.answered, "lost": self.lost, "refused": self.refused}
        return {"exit_code": self.exit_code, "seconds": round(self.seconds, 3)} | told | parts


def rehearse(tell: Callable[[str], object] = say) -> Rehearsal:
    """Release this repository's model on loopback, then a spoiled copy; leaves no process behind.

    Raises:
        ConfigError: another rehearsal is under way here.
        DataError: the model, its evidence or the rows to replay are missing, or a verdict keeps it from being packed.
        DependencyUnavailable: a package is missing, or the service does not come up.
    """
    with _alone():
        return _rehearse(tell)


def _rehearse(tell: Callable[[str], object]) -> Rehearsal:
    started = time.monotonic()
    bundles, key = FOLDER / "bundles", signing_key(FOLDER / "signing.pem")
    shutil.rmtree(bundles, ignore_errors=True)
    trust = Trust(public_keys=(public_beside(key),))
    fresh = pack(bundles, key=key)
    champion = _champion(bundles, fresh, key, trust)
    content, how = spoiled(fresh)
    worse = repack(fresh, content, bundles, created=fresh.manifest.created, key=key)
    bodies = requests(ROWS, fresh.manifest)
    home = Home(FOLDER / "service")
    shutil.rmtree(home.path, ignore_errors=True)  # a rehearsal begins anew; its bundles stay
    rules = shortened(policy.load(), decides=fresh.manifest.decision is not None)
    with service.running(home, rules, trust) as address:
        tell(f"rehearsal: a release service on loopback, {PER_SECOND:.0f} requests per second of {ROWS}")
        _followed(champion, address, trust)
        port = service.serving(address, Role.STABLE, champion.digest)
        with Replay(port, fresh.manifest.name, bodies, PER_SECOND) as replay:
            service.busy(address)
            good = _release(fresh, address, trust, Result.PROMOTED)
            before = replay.failed
            bad = _release(worse, address, trust, Result.ROLLED_BACK)
    if good.ok:
        _crown(fresh)
    lost = before if how == NAN else replay.failed
    return Rehearsal(
        bundle=fresh.digest,
        fresh=good,
        spoiled=bad,
        how=how,
        answered=replay.answered,
        lost=lost,
        refused=replay.failed - lost,
        seconds=time.monotonic() - started,
    )


def _release(bundle: Bundle, address: Address, trust: Trust, expected: Result) -> Part:
    begun = time.monotonic()
    found = _followed(bundle, address, trust)
    return Part(
        expected=expected,
        result=found.release.result,
        sentence=found.release.reason,
        seconds=time.monotonic() - begun,
    )


def _followed(bundle: Bundle, address: Address, trust: Trust) -> Released:
    """A release to its end; Ctrl-C ends the rehearsal, not only the following."""
    found = release(str(bundle.path), address, trust=trust, actor=ACTOR, patience=PATIENCE)
    if found.interrupted:
        raise KeyboardInterrupt
    return found


@contextmanager
def _alone() -> Iterator[None]:
    """No other process rehearses here meanwhile: each begins by removing what the last one left.

    Raises:
        ConfigError: one does.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with alone(FOLDER / "lock", f"process {os.getpid()}"):
            yield
    except Taken as taken:
        raise ConfigError(f"another rehearsal is under way, of {taken.owner}", where=FOLDER,
                          rule="one at a time in a repository", fix="await its end") from None  # fmt: skip


def _champion(bundles: Path, fresh: Bundle, key: Path, trust: Trust) -> Bundle:
    """The model of the last rehearsal that went well, if it takes the same requests; else a copy of the fresh one."""
    for path in CHAMPION.glob("*"):
        with suppress(SwitchbackError):  # of another key, or half of one: it is no champion
            known = open_bundle(path, trust)
            if known.digest != fresh.digest and _same_requests(known.manifest, fresh.manifest):
                return known
    return repack(fresh, fresh.content, bundles, created="1970-01-01T00:00:00+00:00", key=key)


def _same_requests(a: Manifest, b: Manifest) -> bool:
    return (a.name, a.inputs, a.outputs, a.decision) == (b.name, b.inputs, b.outputs, b.decision)


def _crown(bundle: Bundle) -> None:
    """Keep it as the champion of the next rehearsal."""
    shutil.rmtree(CHAMPION, ignore_errors=True)
    shutil.copytree(bundle.path, CHAMPION / bundle.digest)
