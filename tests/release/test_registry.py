"""A folder named by a digest holds that whole bundle, whatever happens while it is added."""

import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import warnings

import pytest

from ci_tools.errors import ConfigError, DataError, SwitchbackError
from ci_tools.release.bundle import Trust, folder
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import CARD, MODEL
from ci_tools.release.registry import Registry
from tests.release.bundle import toy


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return signing_key(tmp_path_factory.mktemp("key") / "signing.pem")


@pytest.fixture(scope="module")
def trusted(key):
    return Trust(public_keys=(public_beside(key),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, key):
    return toy.sealed(tmp_path_factory.mktemp("bundles"), key)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")


def test_added_bundle_is_found_by_its_digest(registry, bundle, trusted):
    assert registry.digests() == []
    added = registry.add(bundle, trusted)
    assert added.path == registry.path / bundle.name
    assert registry.get(bundle.name, trusted) == added
    assert registry.digests() == [bundle.name]
    assert list(registry.path.glob(".new-*")) == []


def test_files_cannot_be_written_any_more(registry, bundle, trusted):
    added = registry.add(bundle, trusted)
    assert {stat.S_IMODE(file.stat().st_mode) & 0o222 for file in added.path.iterdir()} == {0}


def test_adding_again_changes_nothing(registry, bundle, trusted):
    before = registry.add(bundle, trusted).model.stat()
    after = registry.add(bundle, trusted).model.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_bundle_of_the_registry_may_be_added(registry, bundle, trusted):
    added = registry.add(bundle, trusted)
    assert registry.add(added.path, trusted) == added


def test_altered_bundle_is_not_added(registry, bundle, trusted, tmp_path):
    altered = shutil.copytree(bundle, tmp_path / "altered")
    (altered / CARD).write_bytes(b"# TOY\n")
    with pytest.raises(DataError, match="was altered"):
        registry.add(altered, trusted)
    assert registry.digests() == []


def test_what_was_checked_is_kept_even_if_the_source_changes_then(registry, bundle, trusted, tmp_path, monkeypatch):
    source, write = shutil.copytree(bundle, tmp_path / "source"), folder.write

    def change_then_write(path, files):
        (source / MODEL).write_bytes(b"other")
        write(path, files)

    monkeypatch.setattr(folder, "write", change_then_write)
    assert registry.add(source, trusted).content == toy.graph().SerializeToString()


def test_bundle_that_was_altered_in_the_registry_is_refused_until_it_is_added_again(registry, bundle, trusted):
    added = registry.add(bundle, trusted)
    added.model.chmod(0o644)
    added.model.write_bytes(b"other")
    with pytest.raises(DataError, match=r"model\.onnx"):
        registry.get(bundle.name, trusted)
    assert registry.add(bundle, trusted) == added
    assert sorted(file.name for file in registry.path.iterdir()) == sorted([".lock", bundle.name])


def test_bundle_that_is_signed_anew_replaces_one_whose_signer_is_trusted_no_more(registry, bundle, trusted, tmp_path):
    registry.add(bundle, trusted)
    key = signing_key(tmp_path / "other.pem")
    again = toy.sealed(tmp_path / "again", key)
    assert again.name == bundle.name
    assert registry.add(again, Trust(public_keys=(public_beside(key),))).signer != registry.add(bundle, trusted).signer


def test_bundle_under_another_digest_is_refused(registry, bundle, trusted):
    registry.add(bundle, trusted).path.rename(registry.path / ("0" * 64))
    with pytest.raises(DataError, match="lies under its own digest"):
        registry.get("0" * 64, trusted)


@pytest.mark.parametrize("digest", ["", ".", "..", "../registry", "0" * 64, "0" * 63, "A" * 64, "0" * 64 + "\n"])
def test_unknown_digest_is_refused(registry, bundle, trusted, digest):
    registry.add(bundle, trusted)
    with pytest.raises(ConfigError, match="no bundle"):
        registry.get(digest, trusted)


def test_signer_that_is_trusted_no_more_is_refused(registry, bundle, trusted, tmp_path):
    registry.add(bundle, trusted)
    other = Trust(public_keys=(public_beside(signing_key(tmp_path / "other.pem")),))
    with pytest.raises(DataError, match=r"is by key .*; this command trusts"):
        registry.get(bundle.name, other)


def test_full_disk_is_told_and_leaves_nothing(registry, bundle, trusted, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SwitchbackError, match="No space left on device"):
        registry.add(bundle, trusted)
    assert registry.digests() == []
    assert [file.name for file in registry.path.iterdir()] == [".lock"]


EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def add_in_a_child(registry, bundle, trusted, kill_at=-1):
    """Process id of a fork that adds, and kills itself before the `kill_at`-th file operation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of threads, of which none matters here
        child = os.fork()
    if child:
        return child
    seen = 0

    def watch(event, _):
        nonlocal seen
        if event in EVENTS:
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(watch)
    try:
        registry.add(bundle, trusted)
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_kill_at_any_instant_leaves_the_whole_bundle_or_none(tmp_path, bundle, trusted):
    for kill_at in range(1000):
        registry = Registry(tmp_path / f"{kill_at}")
        _, status = os.waitpid(add_in_a_child(registry, bundle, trusted, kill_at), 0)
        for digest in registry.digests():
            assert registry.get(digest, trusted).digest == bundle.name
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert registry.add(bundle, trusted).digest == bundle.name
        assert sorted(file.name for file in registry.path.iterdir()) == sorted([".lock", bundle.name])
    assert kill_at > 15  # the operations of one addition


def test_many_processes_add_the_same_bundle_at_once(registry, bundle, trusted):
    children = [add_in_a_child(registry, bundle, trusted) for _ in range(8)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert registry.get(bundle.name, trusted)
    assert sorted(file.name for file in registry.path.iterdir()) == sorted([".lock", bundle.name])


def test_one_adds_at_a_time_and_leaves_the_other_s_files_alone(registry, bundle, trusted, monkeypatch):
    half = registry.path / ".new-half"
    half.mkdir(parents=True)
    (read, written), really = os.pipe(), fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda *lock: (os.write(written, b"x"), really(*lock)))
    with (registry.path / ".lock").open("w") as lock:
        really(lock, fcntl.LOCK_EX)
        child = add_in_a_child(registry, bundle, trusted)
        os.close(written)
        try:
            assert os.read(read, 1) == b"x"  # it asks for the lock; empty where it ended instead
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            assert half.exists()
            assert registry.digests() == []
        finally:
            really(lock, fcntl.LOCK_UN)  # closing is not enough: the fork shares the open file
            os.close(read)
    assert os.waitpid(child, 0)[1] == 0
    assert not half.exists()
    assert registry.digests() == [bundle.name]


class TestPruning:
    @pytest.fixture
    def digests(self, registry):
        """Five, the oldest first."""
        found = [f"{number:064x}" for number in (3, 1, 4, 2, 5)]
        for age, digest in enumerate(found):
            (registry.path / digest).mkdir(parents=True)
            os.utime(registry.path / digest, (1000 + age, 1000 + age))
        return found

    def test_old_ones_go_that_nobody_needs(self, registry, digests):
        assert registry.prune({digests[1]}, newest=2) == [digests[0], digests[2]]
        assert registry.digests() == sorted([digests[1], *digests[3:]])
        assert list(registry.path.glob(".new-*")) == []

    def test_few_stay_all(self, registry, digests):
        assert registry.prune((), newest=5) == []
        assert registry.digests() == sorted(digests)

    def test_one_that_is_added_again_is_among_the_newest(self, registry, digests, bundle, trusted):
        registry.add(bundle, trusted)
        os.utime(registry.path / bundle.name, (1, 1))
        registry.add(bundle, trusted)
        assert registry.prune((), newest=1) == digests
        assert registry.get(bundle.name, trusted)
