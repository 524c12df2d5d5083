"""A Sigstore of one's own: certificate authority, certificate log and signature log, each with a key made here.

What it issues has every proof that Sigstore's would have, so keyless verification is tested without a network.
Certificate profile: https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md
Signed certificate timestamp: RFC 6962, section 3.2. Log entry and checkpoint: https://docs.sigstore.dev/logging/overview/
"""

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ci_tools.release.bundle import signature

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_KEY_USAGE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)


def text(content):
    return base64.b64encode(content).decode()


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def public(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def identifier(key):
    return hashlib.sha256(public(key)).digest()


def signed(key, content):
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


class Authority:
    """Vouches for anybody."""

    def __init__(self):
        self.ca, self.certificates, self.log = new_key(), new_key(), new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "toy")])
        self.root = (
            self._builder(name, self.ca, timedelta(days=1000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **_KEY_USAGE), critical=True
            )
            .sign(self.ca, hashes.SHA256())
        )

    def trust_config(self):
        """Its keys, in the form in which Sigstore's are handed out."""
        valid = {"start": "2026-01-01T00:00:00Z"}
        subject = {"organization": "toy", "commonName": "toy"}
        chain = {"certificates": [{"rawBytes": text(self.root.public_bytes(Encoding.DER))}]}
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.log, valid)],
            "ctlogs": [self._log(self.certificates, valid)],
            "certificateAuthorities": [{"subject": subject, "uri": "", "certChain": chain, "validFor": valid}],
        }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                "trustedRoot": root,
                "signingConfig": {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"},
            }
        )

    def sign(self, payload, identity, issuer, at=START + timedelta(minutes=1)):
        """model.sig around a payload, as this authority and its logs would have it made."""
        key = new_key()
        certificate = self._certificate(key, identity, issuer)
        sig = signed(key, signature.pre_authentication(payload))
        envelope = {
            "payload": text(payload),
            "payloadType": signature.PAYLOAD_TYPE,
            "signatures": [{"sig": text(sig), "keyid": ""}],
        }
        verifier = text(certificate.public_bytes(Encoding.PEM))
        return {
            "mediaType": signature.MEDIA_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": text(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(payload, text(sig), verifier, int(at.timestamp()))],
                "timestampVerificationData": {"rfc3161Timestamps": []},
            },
            "dsseEnvelope": envelope,
        }

    def _builder(self, subject, key, lasts):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "toy")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START - timedelta(days=1) if key is self.ca else START)
            .not_valid_after(START + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _certificate(self, key, identity, issuer):
        builder = (
            self._builder(x509.Name([]), key, timedelta(minutes=10))
            .add_extension(x509.KeyUsage(True, key_cert_sign=False, crl_sign=False, **_KEY_USAGE), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, issuer.encode()), critical=False)
        )
        timestamp = self._timestamp(builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes)
        return builder.add_extension(x509.UnrecognizedExtension(_TIMESTAMPS, timestamp), critical=False).sign(
            self.ca, hashes.SHA256()
        )

    def _timestamp(self, unstamped):
        """The certificate log's word that it has seen the certificate."""
        at = int(START.timestamp() * 1000)
        entry = identifier(self.ca) + struct.pack("!I", len(unstamped))[1:] + unstamped
        sig = signed(self.certificates, struct.pack("!BBQH", 0, 0, at, 1) + entry + b"\0\0")
        one = (
            struct.pack("!B32sQH", 0, identifier(self.certificates), at, 0) + struct.pack("!BBH", 4, 3, len(sig)) + sig
        )
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        return bytes([4, len(listed)] if len(listed) < 128 else [4, 0x81, len(listed)]) + listed

    def _entry(self, payload, sig, verifier, at):
        """The signature log's only entry, with its promise and its proof."""
        hashed = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        spec = {"envelopeHash": hashed, "payloadHash": hashed, "signatures": [{"signature": sig, "verifier": verifier}]}
        body = signature.canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).strip()
        promised = {"body": text(body), "integratedTime": at, "logID": identifier(self.log).hex(), "logIndex": 0}
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"toy - 1\n1\n{text(root)}\n"
        seal = text(identifier(self.log)[:4] + signed(self.log, note.encode()))
        return {
            "logIndex": "0",
            "logId": {"keyId": text(identifier(self.log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(at),
            "inclusionPromise": {
                "signedEntryTimestamp": text(signed(self.log, signature.canonical(promised).strip())),
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": text(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 toy {seal}\n"},
            },
            "canonicalizedBody": text(body),
        }

    @staticmethod
    def _log(key, valid):
        details = {"rawBytes": text(public(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
        return {
            "baseUrl": "",
            "hashAlgorithm": "SHA2_256",
            "publicKey": details,
            "logId": {"keyId": text(identifier(key))},
        }
