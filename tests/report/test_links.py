from dataclasses import replace

import pytest

from ci_tools.errors import ConfigError
from ci_tools.report.links import Links, parse, tracked
from ci_tools.report.track import kept
from tests.report.hostile import STRINGS


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/team/risk/actions/runs/17#artifacts",
        "https://wandb.example:8443/a/b?c=d&e=%20",
        "https://reports.example/PR-42--Vmlldzo0Mg==",
    ],
)
def test_https_addresses_are_taken(url):
    assert parse([f"wandb-report={url}"]) == Links(wandb_report=url)


@pytest.mark.parametrize(
    "url", [*STRINGS, "http://a.example", "https://a.example/)", "https://a.example/ b", "https://"]
)
def test_everything_else_is_refused(url):
    if url.startswith("https://evil.example") and url.isascii() and not set(url) & set(" \n<>`|()"):
        return
    with pytest.raises(ConfigError, match="is no link"):
        Links(artifacts=url)


@pytest.mark.parametrize("setting", ["wandb", "nonsense=https://a.example", "=https://a.example"])
def test_unknown_name_says_which_there_are(setting):
    with pytest.raises(ConfigError, match="wandb, wandb_report, artifacts, html"):
        parse([setting])


def test_addresses_that_tracking_left_are_taken_unless_others_are_named(tmp_path):
    kept.note("gate", kept.Entry(id="g", url="https://wandb.example/team/risk/runs/g"), tmp_path)
    kept.note_report("https://wandb.example/team/risk/reports/r--1", tmp_path)
    left = tracked(tmp_path)
    assert (left.wandb, left.wandb_report) == (
        "https://wandb.example/team/risk/runs/g",
        "https://wandb.example/team/risk/reports/r--1",
    )
    assert parse(["wandb=https://other.example/"], left) == replace(left, wandb="https://other.example/")


@pytest.mark.parametrize("url", ["", "http://localhost:8080/a", "javascript:alert(1)"])
def test_what_tracking_left_and_is_no_link_is_left_out(tmp_path, url):
    kept.note("gate", kept.Entry(id="g", url=url), tmp_path)
    assert tracked(tmp_path) == Links()
