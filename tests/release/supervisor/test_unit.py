"""The systemd unit: systemd understands it, it restarts the service, drains it, and keeps it in its place."""

import re
import shutil
import subprocess
from pathlib import Path
from string import Template

import pytest
from typer.main import get_command

from ci_tools.cli import app
from ci_tools.release.supervisor import Settings
from tests import units

UNIT = Path(__file__).parents[3] / "deploy/systemd/switchback.service"


@pytest.fixture
def unit():
    return units.read(UNIT)


def test_service_comes_back_and_is_drained_by_its_supervisor(unit):
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert service["KillMode"] == "mixed"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["ExecStart"].split()[1] == "serve"
    assert f"HOME_DIR=/var/lib/{service['StateDirectory']} " in service["Environment"]


def test_command_is_one_that_switchback_takes(unit):
    """With the flags that the unit's own comment gives as an example."""
    words = unit["Service"]["ExecStart"].removesuffix(" $OPTIONS").split()[1:]
    (options,) = re.findall(r"^# .*OPTIONS=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    values = dict(word.partition("=")[::2] for word in unit["Service"]["Environment"].split())
    words = [Template(word).substitute(values) for word in words] + options.split()
    assert words[0] == "serve"
    given = get_command(app).commands["serve"].make_context("serve", words[1:]).params
    assert (given["home"], given["port"]) == (Path("/var/lib/switchback"), 8000)
    assert given["public_keys"]
    assert given["api_port"] == 8070


def test_what_the_unit_needs_is_made_by_the_steps_of_the_guide(unit):
    """Or by systemd, which makes the folders of StateDirectory and ConfigurationDirectory."""
    guide = (UNIT.parents[2] / "docs/serve.md").read_text(encoding="utf-8")
    service = unit["Service"]
    program = service["ExecStart"].split()[0]
    assert f"python3 -m venv {Path(program).parents[1]} " in guide
    assert f"useradd --system {service['User']} --home-dir /var/lib/{service['StateDirectory']}" in guide
    assert f"install -D -m 644 release.yaml {service['WorkingDirectory']}/release.yaml" in guide
    assert f"> {service['EnvironmentFile'].removeprefix('-')}" in guide
    assert f"/etc/{service['ConfigurationDirectory']}" == service["WorkingDirectory"]
    (options,) = re.findall(r"^# (OPTIONS=.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"echo '{options}'" in guide


def test_service_is_hardened(unit):
    service = unit["Service"]
    for key in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "LockPersonality", "RestrictSUIDSGID"):
        assert service[key] == "yes", key
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["User"] != "root"


def test_time_to_stop_covers_the_drain(unit):
    assert int(unit["Service"]["TimeoutStopSec"]) > 2 * Settings().drain_seconds


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_it(tmp_path):
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/opt/switchback/bin/switchback", "/bin/true")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    copy.write_text(text.replace("KillMode=mixed", "KillMode=fixed"), encoding="utf-8")
    wrong = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60)
    assert "kill mode" in wrong.stderr
