"""The metrics, read back by Prometheus' own parser and its linter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import parser

from ci_tools.release.api import app
from tests.release.api import scenes
from tests.release.api.asking import Asking
from tests.release.api.scenes import CANARY, CHAMPION, Staged

PROMTOOL = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
DOCUMENT = (Path(__file__).parents[3] / "docs/release.md").read_text(encoding="utf-8")
SCENES = [scenes.idle, scenes.mirroring, scenes.ramping, scenes.held, scenes.rolled_back, scenes.watching]


def scrape(control):
    answer = Asking(app(control)).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text


def samples(text):
    """(name, sorted labels) to value; a series that stands there twice would be refused by Prometheus."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def of(found, name):
    return {
        tuple(value for _, value in key[1:]): number for key, number in found.items() if key[0] == f"switchback_{name}"
    }


def test_state_of_a_release_is_told():
    status = scenes.ramping()
    found = samples(scrape(Staged(status, scenes.ramp())))
    assert {phase for (phase,), one in of(found, "release_phase").items() if one} == {"ramping"}
    assert set(of(found, "release_result").values()) == {0.0}
    assert of(found, "release_info") == {(CANARY, CHAMPION, scenes.OLD, "r2"): 1.0}
    assert of(found, "release_canary_weight") == of(found, "release_canary_weight_in_force") == {(): 0.16}
    assert of(found, "service_ledger_head") == {(): 6.0}
    for verdict in status.decision.verdicts:
        assert of(found, "release_evidence_harm")[verdict.metric,] == pytest.approx(verdict.log10_harm)
        assert of(found, "release_evidence_safe_needed")[verdict.metric,] == pytest.approx(verdict.log10_safe_needed)
        assert of(found, "release_outcome")[verdict.metric, verdict.outcome.value] == 1.0
        for what, count in verdict.counts.items():
            assert of(found, "release_counted")[verdict.metric, what] == count


def test_weight_without_a_lease_is_not_in_force():
    found = samples(scrape(Staged(scenes.held())))
    assert of(found, "release_canary_weight") == {(): 0.04}
    assert of(found, "release_canary_weight_in_force") == of(found, "service_leased") == {(): 0.0}
    assert of(found, "service_warnings") == {(): 1.0}


def test_servers_and_their_restarts_are_told():
    found = samples(scrape(Staged(scenes.rolled_back())))
    assert of(found, "service_server_restarts_total")["canary", "m3"] == 3.0
    assert of(found, "service_server_health")["failed", "canary", "m3"] == 1.0
    assert of(found, "service_server_health")["ready", "canary", "m3"] == 0.0
    assert of(found, "release_result")["rolled back",] == 1.0


def test_age_of_the_heartbeat_is_in_seconds():
    assert 0 <= of(samples(scrape(Staged())), "service_supervisor_heartbeat_age_seconds")[()] < 60


def test_every_metric_is_in_the_document_and_every_one_there_exists():
    told = set().union(*(re.findall(r"^# HELP (\S+)", scrape(Staged(scene())), re.MULTILINE) for scene in SCENES))
    assert set(re.findall(r"`(switchback_(?:release|service)_[a-z0-9_]+)`", DOCUMENT)) == told


@pytest.mark.skipif(PROMTOOL is None, reason="tests/report/track/get_promtool fetches promtool")
@pytest.mark.parametrize("scene", SCENES)
def test_promtool_finds_nothing_to_say(scene):
    text = scrape(Staged(scene(), scenes.ramp()))
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
