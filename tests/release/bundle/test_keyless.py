"""Signatures of an identity, against a Sigstore of our own."""

import base64
import json
import string
from contextlib import suppress
from datetime import timedelta

import pytest

from ci_tools.errors import ConfigError, DataError, DependencyUnavailable
from ci_tools.release.bundle import Keyless, Trust, keyless, open_bundle, signature
from ci_tools.release.bundle.manifest import MODEL, SIGNATURE
from tests.release.bundle import authority, toy

IDENTITY = "https://github.com/owner/models/.github/workflows/release.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def sigstore():
    return authority.Authority()


@pytest.fixture
def trusted(sigstore, tmp_path):
    (tmp_path / "trust.json").write_text(sigstore.trust_config())
    return Trust(keyless=Keyless(identity=IDENTITY, issuer=ISSUER, trust_config=tmp_path / "trust.json"))


def sign(bundle, sigstore, identity=IDENTITY, issuer=ISSUER, change=lambda raw: None, **given):
    """Replace the signature by one of `sigstore` over the same statement."""
    payload = base64.b64decode(json.loads((bundle / SIGNATURE).read_bytes())["dsseEnvelope"]["payload"])
    raw = sigstore.sign(payload, identity, issuer, **given)
    change(raw)
    (bundle / SIGNATURE).write_bytes(signature.canonical(raw))
    return bundle


def refusal(bundle, trusted):
    with pytest.raises(DataError) as refused:
        open_bundle(bundle, trusted)
    assert str(bundle) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_signature_of_the_trusted_identity_is_accepted(bundle, sigstore, trusted):
    assert open_bundle(sign(bundle, sigstore), trusted).signer == IDENTITY


def test_key_and_identity_may_be_trusted_beside_each_other(bundle, sigstore, trusted, key):
    both = Trust(public_keys=(key.with_suffix(".pub"),), keyless=trusted.keyless)
    assert open_bundle(bundle, both).signer.startswith("key ")
    assert open_bundle(sign(bundle, sigstore), both).signer == IDENTITY


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [(IDENTITY.replace("main", "fork"), ISSUER), (IDENTITY + "x", ISSUER), (IDENTITY, "https://accounts.google.com")],
)
def test_another_identity_or_issuer_is_refused(bundle, sigstore, trusted, identity, issuer):
    refusal(sign(bundle, sigstore, identity, issuer), trusted)


def test_another_authority_is_refused(bundle, trusted):
    refusal(sign(bundle, authority.Authority()), trusted)


@pytest.mark.parametrize("late", [timedelta(minutes=-1), timedelta(minutes=11)])
def test_signature_outside_of_the_certificate_s_minutes_is_refused(bundle, sigstore, trusted, late):
    refusal(sign(bundle, sigstore, at=authority.START + late), trusted)


def test_altered_file_is_refused(bundle, sigstore, trusted):
    sign(bundle, sigstore)
    (bundle / MODEL).write_bytes(toy.graph(x=1).SerializeToString())
    assert "model.onnx" in refusal(bundle, trusted)


def entry(raw):
    return raw["verificationMaterial"]["tlogEntries"][0]


def replace(old, new):
    def change(raw):
        checkpoint = entry(raw)["inclusionProof"]["checkpoint"]
        checkpoint["envelope"] = checkpoint["envelope"].replace(old, new)

    return change


def seal(raw):
    """The line under the checkpoint."""
    return entry(raw)["inclusionProof"]["checkpoint"]["envelope"].partition("\n\n")[2]


CHANGES = {
    "no log entry": lambda raw: raw["verificationMaterial"].update(tlogEntries=[]),
    "two log entries": lambda raw: raw["verificationMaterial"].update(tlogEntries=[entry(raw)] * 2),
    "no promise": lambda raw: entry(raw).pop("inclusionPromise"),
    "no proof": lambda raw: entry(raw).pop("inclusionProof"),
    "other time": lambda raw: entry(raw).update(integratedTime="1767323106"),
    "other index": lambda raw: entry(raw).update(logIndex="1"),
    "other log": lambda raw: entry(raw)["logId"].update(keyId=authority.text(b"x" * 32)),
    "other size": lambda raw: entry(raw)["inclusionProof"].update(treeSize="2"),
    "unknown field": lambda raw: raw.update(more=1),
    "old form": lambda raw: raw.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
    "other payload": lambda raw: raw["dsseEnvelope"].update(payload=authority.text(b"{}")),
    "other type": lambda raw: raw["dsseEnvelope"].update(payloadType="text/plain"),
    "name of a key": lambda raw: raw["dsseEnvelope"]["signatures"][0].update(keyid="x"),
    "no signature": lambda raw: raw["dsseEnvelope"].update(signatures=[]),
    "no envelope": lambda raw: raw.pop("dsseEnvelope"),
    "no certificate": lambda raw: raw.update(verificationMaterial={}),
    "damaged certificate": lambda raw: raw["verificationMaterial"]["certificate"].update(rawBytes="AAAA"),
    "number for a text": lambda raw: raw["verificationMaterial"].update(certificate=1),
    "other checkpoint": replace("toy - 1\n", "toy - 2\n"),
    "other name of the log": replace("\u2014 toy", "\u2014 tox"),
    "further signature of the checkpoint": replace("\n\u2014 toy", "\n\u2014 witness AAAAAAAA\n\u2014 toy"),
    "signature of the checkpoint twice": lambda raw: replace(seal(raw), seal(raw) * 2)(raw),
    "timestamp beside the promise": lambda raw: raw["verificationMaterial"].update(
        timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_altered_signature_is_refused(bundle, sigstore, trusted, change):
    refusal(sign(bundle, sigstore, change=change), trusted)


def test_other_spelling_of_the_checkpoints_signature_is_refused(bundle, sigstore, trusted):
    """Where Base64 is padded, the last digit has bits that say nothing; half of all signatures are of such a length."""
    line = ""
    while not line.endswith("="):
        line = seal(json.loads((sign(bundle, sigstore) / SIGNATURE).read_bytes())).rstrip("\n")
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    bare = line.rstrip("=")
    other = bare[:-1] + digits[digits.index(bare[-1]) + 1] + line[len(bare) :]
    content = (bundle / SIGNATURE).read_text()
    assert content.count(line[2:]) == 1
    (bundle / SIGNATURE).write_text(content.replace(line[2:], other[2:]))
    refusal(bundle, trusted)


def test_what_nobody_checks_is_left_out_when_signing(bundle, sigstore, trusted):
    bare = sign(bundle, sigstore)
    raw = json.loads((bare / SIGNATURE).read_bytes())
    assert keyless.trimmed(raw) == raw
    richer = json.loads(json.dumps(raw))
    CHANGES["further signature of the checkpoint"](richer)
    CHANGES["timestamp beside the promise"](richer)
    assert richer != raw
    assert keyless.trimmed(richer) == raw


@pytest.mark.slow
def test_every_flipped_byte_is_refused(bundle, sigstore, trusted):
    content, accepted = (sign(bundle, sigstore) / SIGNATURE).read_bytes(), []
    for at, byte in enumerate(content):
        (bundle / SIGNATURE).write_bytes(content[:at] + bytes([byte ^ 1]) + content[at + 1 :])
        with suppress(DataError):
            open_bundle(bundle, trusted)
            accepted.append(content[at - 20 : at + 20])
    assert accepted == []


@pytest.mark.parametrize("content", ["", "{}", "nonsense", "[]"])
def test_file_that_holds_no_keys_of_sigstore_is_named(bundle, sigstore, trusted, content):
    trusted.keyless.trust_config.write_text(content)
    with pytest.raises(ConfigError, match=r"trust\.json"):
        open_bundle(sign(bundle, sigstore), trusted)


def test_missing_file_of_keys_is_named(bundle, sigstore, trusted):
    trusted.keyless.trust_config.unlink()
    with pytest.raises(ConfigError, match=r"trust\.json"):
        open_bundle(sign(bundle, sigstore), trusted)


def test_sigstore_out_of_reach_is_told_with_the_way_around(bundle, sigstore, monkeypatch):
    from sigstore.errors import TUFError
    from sigstore.models import ClientTrustConfig

    def unreachable():
        raise TUFError("Failed to refresh TUF metadata")

    monkeypatch.setattr(ClientTrustConfig, "production", unreachable)
    with pytest.raises(DependencyUnavailable, match=r"Failed to refresh TUF metadata.*trust_config"):
        open_bundle(sign(bundle, sigstore), Trust(keyless=Keyless(identity=IDENTITY)))
