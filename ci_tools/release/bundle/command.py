"""`switchback bundle` and `switchback verify`: what they do, and what they say."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ci_tools.errors import ConfigError
from ci_tools.release.bundle import Bundle, open_bundle, trust
from ci_tools.release.bundle.manifest import Decision, Override

if TYPE_CHECKING:
    from ci_tools.release.bundle.evidence import Waiver


@dataclass(frozen=True, kw_only=True)
class Result:
    """A bundle that was packed or checked."""

    verb: str
    path: str
    digest: str
    name: str
    created: str
    git_commit: str
    signer: str
    bytes: int
    """Of the model."""
    overrides: tuple[Override, ...]

    def __str__(self) -> str:
        lines = [f"{self.verb} {self.path}", f"  {self.name} of {self.created}, signed by {self.signer}"]
        lines += [f"  let pass by {one.by}: {one.gate} {one.outcome} ({one.reason})" for one in self.overrides]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"overrides": [one.model_dump(mode="json") for one in self.overrides]}


def bundle(
    out: Path | None = None,
    key: Path | None = None,
    identity: str = "",
    trust_config: Path | None = None,
    override: str = "",
    by: str = "",
    reason: str = "",
    decision: str = "",
    name: str = "",
) -> Result:
    """Pack and sign the working directory's model.

    Args:
        out: folder of bundles; none: `bundles`.
        key: private key; none: this user's own.
        identity: sign by Sigstore as this identity instead of with a key.
        trust_config: file of Sigstore's keys and addresses.
        override: names of blocking gates that may pass, separated by commas.
        by: who lets them pass.
        reason: why.
        decision: `OUTPUT>=THRESHOLD`, where the model does not say it itself.
        name: of the model; empty: the repository's.

    Raises:
        ConfigError: the arguments contradict each other; else as `packing.pack`.
    """
    from ci_tools.release.bundle.packing import BUNDLES, pack

    _refuse_no_text(identity=identity, override=override, by=by, reason=reason, decision=decision, name=name)
    if key and identity:
        raise ConfigError("sign with one of them", where="--key, --identity", fix="leave one out")
    signer = trust.named(identity=identity, trust_config=trust_config)
    packed = pack(
        out or BUNDLES,
        key=key,
        keyless=signer.keyless if signer else None,
        waiver=_waiver(override, by, reason),
        decided=_decision(decision),
        name=name,
    )
    return _result("packed", packed)


def verify(
    path: Path,
    public_keys: tuple[Path, ...] = (),
    identity: str = "",
    issuer: str = "",
    trust_config: Path | None = None,
) -> Result:
    """Check a bundle wholly; without key and identity, against this user's own key.

    Raises:
        DataError, ConfigError, DependencyUnavailable: as `open_bundle`.
    """
    _refuse_no_text(identity=identity, issuer=issuer)
    trusted = trust.named(public_keys, identity, issuer, trust_config) or trust.own()
    return _result("verified", open_bundle(path, trusted))


def _refuse_no_text(**flags: str) -> None:
    """The command line hands on bytes that are no UTF-8 as halves of characters, which nothing can write down."""
    for flag, value in flags.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{value!r} is no text", where=f"--{flag}", rule="UTF-8", fix="spell it anew") from None


def _waiver(override: str, by: str, reason: str) -> "Waiver | None":
    from ci_tools.release.bundle.evidence import Waiver

    gates = tuple(filter(None, (gate.strip() for gate in override.split(","))))
    if not (gates or by or reason):
        return None
    if not (gates and by.strip() and reason.strip()):
        rule = "an override names gates, who lets them pass, and why"
        raise ConfigError("are incomplete", where="--override, --by, --reason", rule=rule, fix="pass all three")
    return Waiver(gates=gates, by=by.strip(), reason=reason.strip())


def _decision(text: str) -> Decision | None:
    if not text:
        return None
    output, sign, threshold = text.partition(">=")
    try:
        if not sign:
            raise ValueError
        return Decision(output=output.strip(), threshold=float(threshold))
    except (ValueError, ValidationError):
        rule = "OUTPUT>=THRESHOLD, the threshold from 0 to 1"
        raise ConfigError(
            f"{text!r} is no decision", where="--decision", rule=rule, fix="such as 'score>=0.5'"
        ) from None


def _result(verb: str, found: Bundle) -> Result:
    manifest = found.manifest
    return Result(
        verb=verb,
        path=str(found.path),
        digest=found.digest,
        name=manifest.name,
        created=manifest.created,
        git_commit=manifest.git_commit,
        signer=found.signer,
        bytes=len(found.content),
        overrides=manifest.overrides,
    )
