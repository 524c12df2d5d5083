"""Envoy's files: written whole, in an order that is safe at every moment, and taken back on a full disk."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.release.traffic.files import PREPARED, ROUTES, Files
from ci_tools.release.traffic.limits import Limits
from ci_tools.release.traffic.routing import NOTHING, Routing

WEIGHTED = Routing(
    serial=17, leased=True, stable=(1, 2), baseline=(2, 1), canary=(3, 1), baseline_parts=50, canary_parts=50
)


_OPEN = os.open


def _refuse(path, flags, *rest, **named):
    """What a full disk does: files can be read, not written."""
    if flags & os.O_WRONLY:
        raise OSError(errno.ENOSPC, "No space left on device")
    return _OPEN(path, flags, *rest, **named)


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path, Limits())
    made.publish(NOTHING)
    return made


@pytest.fixture
def renamed(monkeypatch):
    """Names of files in the order in which they took effect."""
    names, replace = [], Path.replace

    def noted(self, target):
        names.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    return names


@pytest.fixture
def full(monkeypatch):
    """A switch that fills the disk: nothing can be written, renaming goes on."""

    return lambda: monkeypatch.setattr(os, "open", _refuse)


def read(files, name=ROUTES):
    return json.loads((files.folder / name).read_bytes())


def test_weights_come_behind_the_servers_that_they_need_and_the_safe_route_before_both(files, renamed):
    files.publish(WEIGHTED)
    assert renamed[0] == PREPARED
    assert renamed[-1] == ROUTES
    assert {"servers.stable.json", "servers.canary.json", "servers.mirror.json"} < set(renamed)


def test_weights_are_taken_back_first(files, renamed):
    files.publish(WEIGHTED)
    renamed.clear()
    files.publish(replace(WEIGHTED.safe(), canary=()))
    assert renamed[0] == ROUTES
    assert "servers.canary.json" in renamed


def test_servers_of_a_promotion_change_behind_the_weights(files, renamed):
    files.publish(WEIGHTED)
    renamed.clear()
    files.publish(Routing(serial=18, leased=True, stable=(3, 1)))
    assert renamed[:2] == [PREPARED, ROUTES]
    assert "servers.stable.json" in renamed


def test_pool_without_servers_is_answered_by_stable_while_envoy_forgets_it(files):
    files.publish(WEIGHTED)
    files.publish(Routing(serial=18, leased=True, stable=(3, 1)))
    for pool in ("baseline", "canary"):
        (only,) = read(files, f"servers.{pool}.json")["resources"][0]["endpoints"]
        assert only["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] == 3
    assert read(files, "servers.mirror.json")["resources"][0]["endpoints"] == []


def test_only_what_changed_is_written(files, renamed):
    files.publish(WEIGHTED)
    renamed.clear()
    files.publish(replace(WEIGHTED, canary_parts=60))
    assert renamed == [ROUTES]


def test_lease_that_ends_needs_a_rename_only(files, full):
    files.publish(WEIGHTED)
    full()
    files.publish(WEIGHTED.safe())
    assert read(files)["version_info"] == "17-safe"
    assert files.published == WEIGHTED.safe()


def test_rollback_on_a_full_disk_takes_the_weights_back(files, full):
    files.publish(WEIGHTED)
    full()
    with pytest.raises(SwitchbackError, match="No space"):
        files.publish(replace(WEIGHTED.safe(), serial=18))
    assert read(files)["version_info"] == "17-safe"
    assert (files.published.serial, files.published.leased) == (17, False)


def test_weights_are_not_given_where_they_could_not_be_taken_back(files, full):
    files.publish(replace(WEIGHTED, serial=16, canary_parts=0, baseline_parts=0))
    full()
    with pytest.raises(SwitchbackError, match="No space"):
        files.publish(WEIGHTED)
    assert read(files)["version_info"] == "16-safe"


def test_weights_that_cannot_be_changed_are_taken_back(files, full):
    files.publish(WEIGHTED)
    full()
    with pytest.raises(SwitchbackError, match="No space"):
        files.publish(replace(WEIGHTED, serial=18, canary_parts=10))
    assert read(files)["version_info"] == "17-safe"
    assert not files.published.leased


def test_failed_write_is_made_good_when_there_is_space_again(files, full, monkeypatch):
    files.publish(WEIGHTED)
    with monkeypatch.context() as during:
        during.setattr(os, "open", _refuse)
        with pytest.raises(SwitchbackError, match="No space"):
            files.publish(replace(WEIGHTED.safe(), serial=18))
    files.publish(replace(WEIGHTED.safe(), serial=18))
    assert read(files)["version_info"] == "18-safe"


def test_files_that_somebody_changed_are_written_anew(files):
    files.publish(WEIGHTED)
    right = {path.name: path.read_text() for path in files.folder.iterdir()}
    for path in files.folder.iterdir():
        path.write_text("{}")
    files.renew()
    assert {path.name: path.read_text() for path in files.folder.iterdir() if path.name != PREPARED} == {
        name: text for name, text in right.items() if name != PREPARED
    }


@pytest.mark.parametrize("gone", [(PREPARED,), (PREPARED, ROUTES)])
def test_traffic_returns_to_stable_though_somebody_removed_the_files(files, gone):
    """Such as a cleaner of temporary folders: the lease must end all the same."""
    files.publish(WEIGHTED)
    for name in gone:
        (files.folder / name).unlink()
    files.publish(WEIGHTED.safe())
    assert read(files)["version_info"] == "17-safe"
    assert files.published == WEIGHTED.safe()
