"""The signature is one that OpenSSF's tools take, and stricter than they are."""

import base64
import json
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from model_signing import verifying

from ci_tools.errors import DataError
from ci_tools.release.bundle import Trust, open_bundle, signature
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import SIGNATURE
from tests.release.bundle import toy


def library_accepts(bundle, public):
    with suppress(Exception):
        verifying.Config().use_elliptic_key_verifier(public_key=public).verify(bundle, bundle / SIGNATURE)
        return True
    return False


def changed(bundle, change):
    """Rewrite the signature in canonical form after `change` of its JSON."""
    raw = json.loads((bundle / SIGNATURE).read_bytes())
    change(raw)
    (bundle / SIGNATURE).write_bytes(signature.canonical(raw))
    return bundle


def signed_payload(bundle, key, change):
    """Sign another statement, with the right key."""
    private = load_pem_private_key(key.read_bytes(), None)

    def sign(raw):
        said = json.loads(base64.b64decode(raw["dsseEnvelope"]["payload"]))
        other = change(said)
        payload = json.dumps(said if other is None else other).encode()
        sig = private.sign(signature.pre_authentication(payload), ec.ECDSA(hashes.SHA256()))
        raw["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        raw["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()

    return changed(bundle, sign)


def refusal(bundle, trusted):
    with pytest.raises(DataError) as refused:
        open_bundle(bundle, trusted)
    assert str(bundle / SIGNATURE) in str(refused.value)
    return str(refused.value)


def test_library_of_the_format_accepts_what_is_packed(bundle, trusted):
    assert library_accepts(bundle, trusted.public_keys[0])
    assert open_bundle(bundle, trusted)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_longer_keys_sign_too(tmp_path, curve):
    file = tmp_path / "key.pem"
    private = ec.generate_private_key(curve)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    bundle = toy.sealed(tmp_path / "bundles", signing_key(file))
    assert library_accepts(bundle, public_beside(file))
    assert open_bundle(bundle, Trust(public_keys=(public_beside(file),)))


UNSIGNED = {
    "name of the key": lambda raw: raw["dsseEnvelope"]["signatures"][0].update(keyid="x"),
    "unknown field": lambda raw: raw.update(more=1),
    "old form without the key's digest": lambda raw: raw["verificationMaterial"].update(publicKey={}),
    "kind of the key": lambda raw: raw["verificationMaterial"]["publicKey"].update(keyDetails="x"),
}


@pytest.mark.parametrize("change", UNSIGNED.values(), ids=UNSIGNED)
def test_what_the_library_reads_past_is_refused(bundle, trusted, change):
    changed(bundle, change)
    refusal(bundle, trusted)


def test_two_of_those_are_indeed_read_past_by_the_library(bundle, trusted):
    changed(bundle, UNSIGNED["name of the key"])
    assert library_accepts(bundle, trusted.public_keys[0])
    changed(bundle, UNSIGNED["old form without the key's digest"])
    assert library_accepts(bundle, trusted.public_keys[0])


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.rstrip(),
        lambda text: text + b" ",
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: text.replace(b'"keyid"', b'"\\u006beyid"'),
        lambda text: text.replace(b'{"dsseEnvelope"', b'{"dsseEnvelope":1,"dsseEnvelope"'),
    ],
)
def test_other_spelling_of_the_same_signature_is_refused(bundle, trusted, rewrite):
    (bundle / SIGNATURE).write_bytes(rewrite((bundle / SIGNATURE).read_bytes()))
    refusal(bundle, trusted)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}\n", b"[]\n", b"1\n", b"\xff", b"[" * 100_000, b'{"verificationMaterial":{"publicKey":1}}\n']
    + [signature.canonical({"verificationMaterial": {"publicKey": {"hint": hint}}}) for hint in (1, [], "x", None)],
)
def test_file_of_another_kind_is_refused(bundle, trusted, text):
    (bundle / SIGNATURE).write_bytes(text)
    refusal(bundle, trusted)


@pytest.mark.parametrize("sig", ["", "AA==", "A", "é", 1, None, "MEUCIQ=="])
def test_signature_that_is_none_is_refused(bundle, trusted, sig):
    refusal(changed(bundle, lambda raw: raw["dsseEnvelope"]["signatures"][0].update(sig=sig)), trusted)


def test_signature_of_a_key_is_refused_where_only_an_identity_is_trusted(bundle):
    from ci_tools.release.bundle import Keyless

    assert "this command trusts no key" in refusal(bundle, Trust(keyless=Keyless(identity="somebody")))


def test_signature_without_a_key_is_refused_where_only_keys_are_trusted(bundle, trusted):
    assert "no key" in refusal(
        changed(bundle, lambda raw: raw.update(verificationMaterial={"certificate": {}})), trusted
    )


class TestStatementOfATrustedSigner:
    """Signed by the right key, about something else."""

    def test_resigned_as_it_was_is_accepted(self, bundle, trusted, key):
        assert open_bundle(signed_payload(bundle, key, lambda said: None), trusted)

    @pytest.mark.parametrize(
        "change",
        [
            lambda said: said.update(_type="https://in-toto.io/Statement/v0.1"),
            lambda said: said.update(predicateType="https://slsa.dev/provenance/v1"),
            lambda said: said.update(subject=[]),
            lambda said: said.update(subject=said["subject"] * 2),
            lambda said: said["subject"][0]["digest"].update(sha256="0" * 64),
            lambda said: said["predicate"]["serialization"].update(method="shards"),
            lambda said: said["predicate"]["resources"][0].update(algorithm="blake3"),
            lambda said: said["predicate"]["resources"].append(said["predicate"]["resources"][0]),
            lambda said: said["predicate"].update(resources=None),
            lambda said: [],
            lambda said: "x",
        ],
    )
    def test_of_another_kind_is_refused(self, bundle, trusted, key, change):
        assert "other than the files of a model" in refusal(signed_payload(bundle, key, change), trusted)

    def test_about_another_bundle_is_refused(self, bundle, trusted, key):
        changed_name = signed_payload(bundle, key, lambda said: said["subject"][0].update(name="0" * 64))
        assert "another name" in refusal(changed_name, trusted)
