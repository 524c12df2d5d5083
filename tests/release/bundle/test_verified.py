"""Nothing is loaded but what a trusted signer signed, byte for byte."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto

from ci_tools.errors import ConfigError, DataError, SwitchbackError
from ci_tools.release.bundle import Trust, folder, open_bundle
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE
from tests.release.bundle import toy


def refusal(path, trusted):
    with pytest.raises(DataError) as refused:
        open_bundle(path, trusted)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_bundle_as_it_was_signed_opens(bundle, trusted):
    opened = open_bundle(bundle, trusted)
    assert opened.digest == hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest() == bundle.name
    assert opened.content == opened.model.read_bytes() == toy.graph().SerializeToString()
    assert opened.manifest.name == "toy"
    assert opened.signer.startswith("key ")


def test_name_of_the_folder_does_not_matter(bundle, trusted, monkeypatch):
    moved = bundle.rename(bundle.with_name("anything"))
    assert open_bundle(moved, trusted).digest == bundle.name
    monkeypatch.chdir(moved)
    assert open_bundle(Path(), trusted).digest == bundle.name


def test_folder_that_is_named_by_another_digest_is_refused(bundle, trusted):
    """So that a server loads what the plan names, though somebody exchanged two bundles of the registry."""
    moved = bundle.rename(bundle.with_name("0" * 64))
    assert "lies under its own digest" in refusal(moved, trusted)
    moved.rename(bundle)
    moved.symlink_to(bundle)
    assert "lies under its own digest" in refusal(moved, trusted)


def test_loop_of_links_is_refused(tmp_path, trusted):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SwitchbackError, match="Too many levels of symbolic links"):
        open_bundle(tmp_path / "loop", trusted)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("name", [MODEL, CARD, MANIFEST, SIGNATURE])
def test_every_flipped_byte_is_refused(bundle, trusted, name, mask):
    content = (bundle / name).read_bytes()
    accepted = []
    with (bundle / name).open("r+b", buffering=0) as file:
        for at, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ mask]), at)
            try:
                open_bundle(bundle, trusted)
                accepted.append(at)
            except DataError:
                os.pwrite(file.fileno(), bytes([byte]), at)
    assert accepted == []
    assert open_bundle(bundle, trusted)


@pytest.mark.parametrize("name", [MODEL, CARD, MANIFEST, SIGNATURE])
class TestFile:
    def test_missing(self, bundle, trusted, name):
        (bundle / name).unlink()
        assert f"{name}: is missing" in refusal(bundle, trusted)

    def test_empty(self, bundle, trusted, name):
        (bundle / name).write_bytes(b"")
        assert name in refusal(bundle, trusted)

    def test_truncated(self, bundle, trusted, name):
        for size in range(len((bundle / name).read_bytes()) - 1, 0, -97):
            os.truncate(bundle / name, size)
            assert name in refusal(bundle, trusted)

    def test_longer(self, bundle, trusted, name):
        with (bundle / name).open("ab") as file:
            file.write(b"\n")
        assert name in refusal(bundle, trusted)

    def test_link_to_the_same_content(self, bundle, trusted, name, tmp_path):
        (bundle / name).rename(tmp_path / "elsewhere")
        (bundle / name).symlink_to(tmp_path / "elsewhere")
        assert f"{name}: is a symbolic link" in refusal(bundle, trusted)

    def test_folder(self, bundle, trusted, name):
        (bundle / name).unlink()
        (bundle / name).mkdir()
        assert f"{name}: is no regular file" in refusal(bundle, trusted)

    def test_pipe_that_nobody_writes(self, bundle, trusted, name):
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        assert f"{name}: is no regular file" in refusal(bundle, trusted)

    def test_socket(self, bundle, trusted, name, monkeypatch):
        (bundle / name).unlink()
        monkeypatch.chdir(bundle)  # a socket's address has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
            assert f"{name}: is no regular file" in refusal(bundle, trusted)

    def test_larger_than_any_bundle_has(self, bundle, trusted, name, monkeypatch):
        monkeypatch.setattr(folder, "LARGEST", folder.LARGEST_TEXT)
        os.truncate(bundle / name, folder.LARGEST_TEXT + 1)
        assert f"{name}: has 4,194,305 bytes; at most" in refusal(bundle, trusted)


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "model.onnx.data", "line\nbreak"])
def test_added_file_is_refused(bundle, trusted, name):
    (bundle / name).write_bytes(b"")
    assert "a bundle holds what was signed only" in refusal(bundle, trusted)


def test_added_folder_is_refused(bundle, trusted):
    (bundle / ".git").mkdir()
    assert "'.git'" in refusal(bundle, trusted)


def test_more_files_than_any_bundle_has_are_refused(bundle, trusted):
    for i in range(folder.MOST_FILES):
        (bundle / f"{i}").touch()
    assert "too many files" in refusal(bundle, trusted)


def test_files_of_two_bundles_do_not_mix(bundle, trusted, key, tmp_path):
    other = toy.sealed(tmp_path / "other", key, manifest=toy.manifest_of({MODEL: b"", CARD: b""}))
    shutil.copy(other / SIGNATURE, bundle / SIGNATURE)
    assert f"{MANIFEST}: is not what was signed" in refusal(bundle, trusted)


def test_other_signer_is_refused(bundle, tmp_path):
    other = signing_key(tmp_path / "other.pem")
    assert "this command trusts" in refusal(bundle, Trust(public_keys=(public_beside(other),)))


def test_any_of_the_trusted_keys_is_enough(bundle, trusted, tmp_path):
    other = public_beside(signing_key(tmp_path / "other.pem"))
    assert open_bundle(bundle, Trust(public_keys=(other, *trusted.public_keys)))


def test_key_that_is_not_there_is_no_fault_of_the_bundle(bundle, tmp_path):
    with pytest.raises(ConfigError, match="no such public key"):
        open_bundle(bundle, Trust(public_keys=(tmp_path / "missing.pub",)))


def test_own_key_is_trusted_where_nobody_is_named(original, key, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no such public key"):
        open_bundle(original)
    (tmp_path / ".config/switchback").mkdir(parents=True)
    shutil.copy(public_beside(key), tmp_path / ".config/switchback/signing.pub")
    assert open_bundle(original).digest == original.name


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_path_without_a_folder_is_refused(tmp_path, trusted, path):
    (tmp_path / "file").touch()
    assert "no bundle here" in refusal(tmp_path / path, trusted)


class TestSignedByATrustedSignerAndStill:
    """What is signed may be wrong all the same."""

    def refusal(self, tmp_path, key, trusted, **content):
        return refusal(toy.sealed(tmp_path, key, **content), trusted)

    def test_an_empty_manifest(self, tmp_path, key, trusted):
        assert MANIFEST in self.refusal(tmp_path, key, trusted, manifest=b"")

    @pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b"\xff\xfe", b'{"name": NaN}', b"[" * 10_000])
    def test_a_manifest_of_another_form(self, tmp_path, key, trusted, text):
        assert "docs/bundle.md" in self.refusal(tmp_path, key, trusted, manifest=text)

    @pytest.mark.parametrize("changes", [{"schema_version": 2}, {"unheard": 1}, {"created": 1}, {"inputs": [{}]}])
    def test_a_manifest_that_breaks_the_schema(self, tmp_path, key, trusted, changes):
        text = toy.manifest_of({MODEL: toy.graph().SerializeToString(), CARD: b"# toy\n"}, **changes)
        assert next(iter(changes)) in self.refusal(tmp_path, key, trusted, manifest=text)

    @pytest.mark.parametrize("name", ["network.onnx", "../model.onnx", "/etc/passwd", MANIFEST, SIGNATURE])
    def test_a_manifest_that_names_another_file_as_the_model(self, tmp_path, key, trusted, name):
        text = toy.manifest_of({name: toy.graph().SerializeToString(), CARD: b"# toy\n"})
        assert f"a bundle holds {MODEL} and {CARD}" in self.refusal(tmp_path, key, trusted, manifest=text)

    def test_a_manifest_that_names_another_digest(self, tmp_path, key, trusted):
        text = toy.manifest_of({MODEL: b"other", CARD: b"# toy\n"})
        assert "names other files" in self.refusal(tmp_path, key, trusted, manifest=text)

    def test_a_manifest_that_names_another_size(self, tmp_path, key, trusted):
        text = toy.manifest_of({MODEL: toy.graph().SerializeToString(), CARD: b"# toy\n"})
        text = text.replace(b'"bytes": 6', b'"bytes": 7')
        assert f"{CARD}: has 6 bytes instead of 7" in self.refusal(tmp_path, key, trusted, manifest=text)

    def test_a_file_that_the_manifest_does_not_name(self, tmp_path, key, trusted):
        assert "names other files" in self.refusal(tmp_path, key, trusted, extra=b"")

    @pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
    def test_a_model_with_tensors_in_another_file(self, tmp_path, key, trusted, location):
        model = toy.graph()
        tensor = model.graph.initializer[0]
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        said = self.refusal(tmp_path, key, trusted, model=model.SerializeToString())
        assert f"{MODEL}: keeps tensors in another file" in said

    def test_a_model_that_is_none(self, tmp_path, key, trusted):
        assert f"{MODEL}: is no ONNX file" in self.refusal(tmp_path, key, trusted, model=b"\x07nonsense")


def test_verifying_by_a_key_needs_neither_the_signing_library_nor_the_runtime(original, trusted):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ci_tools.release.bundle import Trust, open_bundle\n"
        f"open_bundle(Path({str(original)!r}), Trust(public_keys=(Path({str(trusted.public_keys[0])!r}),)))\n"
        "heavy = {'model_signing', 'sigstore', 'onnx', 'onnxruntime', 'numpy', 'torch'} & sys.modules.keys()\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
