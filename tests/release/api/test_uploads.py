"""Bundles that are sent: what is let through to the registry's check, and what is not."""

import io
import tarfile

import pytest

from ci_tools.errors import BundleError
from ci_tools.release.api import app
from ci_tools.release.api.uploads import TYPE
from tests.release.api.asking import Asking
from tests.release.api.scenes import CANARY, Staged


@pytest.fixture
def control():
    return Staged()


@pytest.fixture
def send(control):
    """Posts an archive of members; returns the answer."""

    def run(*members, kind=TYPE):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:") as tar:
            for member, content in members:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return Asking(app(control)).post("/bundles", content=buffer.getvalue(), headers={"content-type": kind})

    return run


def member(name, kind=tarfile.REGTYPE, target=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def sparse(name):
    """In the form of GNU's tar: a map of what is there, and a size of which the archive holds nothing."""
    found = tarfile.TarInfo(name)
    values = {"major": "1", "minor": "0", "name": name, "realsize": str(1 << 40)}
    found.pax_headers = {f"GNU.sparse.{key}": value for key, value in values.items()}
    return found


def test_a_bundle_reaches_the_registry_file_by_file(send, control):
    answer = send((member("manifest.json"), b"{}"), (member("model.onnx"), b"\0" * 100_000))
    assert (answer.status_code, answer.json()) == (201, {"bundle": CANARY})
    assert control.added == {"manifest.json": b"{}", "model.onnx": b"\0" * 100_000}


@pytest.mark.parametrize(
    "odd",
    [
        member("../manifest.json"),
        member("/tmp/manifest.json"),
        member("a/manifest.json"),
        member(".."),
        member("manifest.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("manifest.json", tarfile.LNKTYPE, "/etc/passwd"),
        member("manifest.json", tarfile.FIFOTYPE),
        member("folder", tarfile.DIRTYPE),
        sparse("model.onnx"),
    ],
    ids=lambda odd: f"{odd.name} {odd.type}",
)
def test_what_is_no_plain_file_is_refused(send, control, odd):
    answer = send((odd, b"0\n".ljust(512, b"\0") if odd.pax_headers else b""))
    assert (answer.status_code, answer.json()["error"]) == (422, "the archive holds more than the files of a bundle")
    assert not hasattr(control, "added")


def test_more_files_than_any_bundle_has_are_refused(send):
    assert send(*((member(f"file-{number}"), b"") for number in range(65))).status_code == 422


def test_another_kind_of_body_is_refused(send, control):
    assert send(kind="application/json").status_code == 415
    assert send(kind="text/plain").status_code == 415
    broken = Asking(app(control)).post("/bundles", content=b"x" * 2000, headers={"content-type": TYPE})
    assert (broken.status_code, broken.json()["error"]) == (422, "the body is no tar archive")


def test_a_body_without_end_is_refused(send, monkeypatch):
    monkeypatch.setattr("ci_tools.release.api.uploads.LARGEST_BODY", 5000)
    assert send((member("model.onnx"), b"\0" * 10_000)).status_code == 413


def test_a_bundle_of_somebody_else_is_refused_with_the_registrys_words(send, control):
    def refuse(bundle):
        raise BundleError("is not signed by anybody who is trusted", where="bundle", fix="name the signer")

    control.add = refuse
    answer = send((member("manifest.json"), b"{}"))
    assert (answer.status_code, answer.json()["fix"]) == (422, "name the signer")
    assert "is not signed by anybody" in answer.json()["error"]
