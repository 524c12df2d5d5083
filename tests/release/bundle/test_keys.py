"""The signing key is made once, and kept from others."""

import os
import stat
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.release.bundle.keys import DEFAULT, GIVEN, fingerprint, load_public, public_beside, signing_key
from ci_tools.release.bundle.trust import own


def test_first_use_makes_a_key_that_only_its_owner_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = signing_key()
    assert made == DEFAULT.expanduser()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert load_public(public_beside(made)).curve.name == "secp256r1"
    assert sorted(file.name for file in made.parent.iterdir()) == ["signing.pem", "signing.pub"]


def test_second_use_takes_the_same_key(tmp_path):
    first = signing_key(tmp_path / "a.pem").read_bytes()
    assert signing_key(tmp_path / "a.pem").read_bytes() == first


def test_machine_without_a_key_takes_the_given_one(tmp_path, monkeypatch):
    given = signing_key(tmp_path / "a.pem")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(GIVEN, given.read_text().strip())  # a secret's last line end is easily lost
    for _ in range(2):
        assert signing_key().read_bytes() == given.read_bytes()
        assert stat.S_IMODE(DEFAULT.expanduser().stat().st_mode) == 0o600
    assert signing_key(tmp_path / "b.pem").read_bytes() != given.read_bytes()  # the file that is named counts
    monkeypatch.setenv(GIVEN, "")
    assert signing_key().read_bytes() == given.read_bytes()


@pytest.mark.parametrize(
    ("given", "said"), [("", f"{GIVEN}: is empty"), ("no key", r"signing\.pem: is no private key")]
)
def test_no_key_is_made_where_one_was_to_be_given(tmp_path, monkeypatch, given, said):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(GIVEN, given)
    with pytest.raises(ConfigError, match=said):
        signing_key()
    assert not DEFAULT.expanduser().exists()


def test_two_keys_are_one_too_many(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    signing_key()
    monkeypatch.setenv(GIVEN, signing_key(tmp_path / "other.pem").read_text())
    with pytest.raises(ConfigError, match=f"is another key than that of {GIVEN}"):
        signing_key()


def test_public_half_that_is_gone_or_another_is_written_again(tmp_path):
    key, other = signing_key(tmp_path / "a.pem"), signing_key(tmp_path / "b.pem")
    before = public_beside(key).read_bytes()
    public_beside(key).unlink()
    signing_key(key)
    assert public_beside(key).read_bytes() == before
    public_beside(key).write_bytes(public_beside(other).read_bytes())
    signing_key(key)
    assert public_beside(key).read_bytes() == before


def test_many_that_need_the_first_key_at_once_get_the_same(tmp_path):
    start, found = threading.Barrier(8), []

    def make():
        start.wait()
        found.append(signing_key(tmp_path / "a.pem").read_bytes())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_key_that_others_can_read_or_write_is_refused(tmp_path, mode):
    key = signing_key(tmp_path / "a.pem")
    key.chmod(mode)
    with pytest.raises(ConfigError, match="others can read it"):
        signing_key(key)


def pem(private, encryption=None):
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no private key"),
        (b"nonsense", "no private key"),
        (pem(rsa.generate_private_key(65537, 2048)), "another kind"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "another kind"),
        (pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")), "no private key"),
    ],
    ids=["empty", "nonsense", "rsa", "other curve", "password"],
)
def test_file_that_cannot_sign_is_refused(tmp_path, content, said):
    file = tmp_path / "a.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=said):
        signing_key(file)


@pytest.mark.parametrize("content", [b"", b"nonsense", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_file_that_holds_no_public_key_is_refused(tmp_path, content):
    (tmp_path / "a.pub").write_bytes(content)
    with pytest.raises(ConfigError, match="is no public key"):
        load_public(tmp_path / "a.pub")


def test_public_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives.serialization import PublicFormat

    public = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "a.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ConfigError, match="another kind"):
        load_public(tmp_path / "a.pub")


def test_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SwitchbackError, match="cannot be read or written"):
        signing_key(tmp_path / "file" / "a.pem")
    assert os.listdir(tmp_path) == ["file"]


def test_keys_are_told_apart_by_their_fingerprint(tmp_path):
    keys = [load_public(public_beside(signing_key(tmp_path / f"{i}.pem"))) for i in range(2)]
    assert len(set(map(fingerprint, keys))) == 2


def test_user_without_a_home_is_told_what_to_do(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    for need in (signing_key, own, lambda: load_public(DEFAULT)):
        with pytest.raises(ConfigError, match=r"this user has no home.*set HOME"):
            need()
