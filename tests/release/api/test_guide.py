"""What docs/release.md and docs/runbooks.md say is so.

`python -m tests.release.api.test_guide` puts the measured table into docs/release.md.
"""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ci_tools import config
from ci_tools.release.api.bodies import LABEL_BYTES
from ci_tools.release.api.routes import MOST_EVENTS, STALE_SECONDS
from ci_tools.release.control import Phase, Result
from ci_tools.release.judge import Outcome, Policy
from ci_tools.release.judge.budget import alphas
from ci_tools.release.plan import LEASE_SECONDS
from ci_tools.release.registry import KEPT
from ci_tools.release.server.settings import Settings
from tests.release.api import scenes

ROOT = Path(__file__).parents[3]
SERVE = ROOT / "docs/serve.md"
GUIDE, RUNBOOKS = ROOT / "docs/release.md", ROOT / "docs/runbooks.md"
MARKED = re.compile(r"(<!-- judge -->\n)(.*?)(<!-- /judge -->)", re.DOTALL)
TRUTHS = {
    "errors none": "no difference",
    "errors x1.5": "1.5 times the errors (the margin)",
    "errors x2": "twice the errors",
    "errors x5": "five times the errors",
    "errors outage": "every request fails, from minute 30 on",
    "latency +20 %": "latency 20 % up",
    "latency tail": "2 % of requests 300 ms slower",
}
TRAFFIC = (20, 200, 2000)


def measured():
    """The tables, of the judge at the shipped level."""
    result = json.loads((ROOT / "benchmarks/results/judge-cpu.json").read_text(encoding="utf-8"))
    found = {
        truth: [result["facts"]["cells"][f"{truth} flat {traffic}"]["Switchback at 1%"] for traffic in TRAFFIC]
        for truth in TRUTHS
    }
    lines = ["| found harmful within the hour | 20 | 200 | 2,000 |", "|---" * 4 + "|"]
    lines += [f"| {name} | {' | '.join(map(harmful, found[truth]))} |" for truth, name in TRUTHS.items()]
    lines += ["", "| proven safe within the hour | 20 | 200 | 2,000 |", "|---" * 4 + "|"]
    lines += [
        f"| {TRUTHS[truth]} | {' | '.join(map(safe, found[truth]))} |" for truth in ("errors none", "errors x1.5")
    ]
    origin = f"By `{result['command']}` at commit {result['commit'][:9]}, {result['date'][:10]}."
    return "\n".join([*lines, "", f"{origin} Times are medians over all releases of the row.", ""])


def harmful(cell):
    """Share, and the time where most were."""
    after = "" if cell["minutes"] is None else f", after {cell['minutes']:.3g} min"
    return f"{100 * cell['rolled_back']:.3g} %{after}"


def safe(cell):
    """Share that was proven before any evidence of harm."""
    return f"{100 * cell['promoted']:.3g} %"


def table(page, heading):
    """First cells of the table under a heading."""
    section = re.split(r"^#+ ", page.read_text().partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return [line.split("|")[1].strip() for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)[2:]]


def test_measured_table_is_up_to_date():
    assert MARKED.search(GUIDE.read_text(encoding="utf-8"))[2] == measured()


def test_every_phase_end_and_outcome_is_explained():
    assert set(table(GUIDE, "What happens to a release")) == {phase.value for phase in Phase}
    text = GUIDE.read_text(encoding="utf-8")
    assert all(f"**{result.value}**" in text for result in Result)
    assert {outcome.value for outcome in Outcome} < set(table(GUIDE, "One metric"))


def test_every_metric_of_the_shipped_policy_is_explained():
    named = re.findall(r"`([a-z0-9_.]+)`", " ".join(table(GUIDE, "One metric")))
    assert set(named) == Policy().metrics.keys()


def test_example_policy_is_valid_and_its_keys_are_known():
    (block,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    policy = config.validate(YAML(typ="safe", pure=True).load(block), Policy, where="docs/release.md")
    shipped = Policy()
    same = ("false_rollback", "wrong_promotion", "ramp", "deadline_seconds", "at_deadline", "no_traffic_seconds")
    assert [getattr(policy, key) for key in same] == [getattr(shipped, key) for key in same]
    assert policy.watch_seconds == shipped.watch_seconds


def test_example_policy_is_the_shipped_file():
    (block,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block == (ROOT / "release.yaml").read_text(encoding="utf-8")


def test_limits_of_the_guide_are_those_of_the_server():
    text, policy = " ".join(SERVE.read_text(encoding="utf-8").split()), Policy()
    server = {name: field.default for name, field in Settings.model_fields.items()}
    assert f"as fit into {server['body_bytes'] >> 20} MiB" in text
    assert f"one batch of up to {server['batch_rows']} rows" in text
    assert f"behind {server['queue']} others" in text
    assert f"has {server['timeout_ms'] / 1000:.0f} s, or less" in text
    assert f"the newest {KEPT} bundles" in text
    guide = " ".join(GUIDE.read_text(encoding="utf-8").split())
    for key in ("min_seconds", "no_traffic_seconds", "watch_seconds"):
        assert f"`{key}` ({getattr(policy, key):,.0f})" in guide


def test_numbers_in_the_text_are_those_of_the_code():
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    policy = Policy()
    assert f"{1 / alphas(policy)['events.errors']:.0f} to 1 needed" in text
    assert f"({1 / policy.wrong_promotion:.0f} to 1 by default)" in text
    assert policy.false_rollback == 0.01
    assert LEASE_SECONDS == 3
    assert "for three seconds at a time" in text
    assert f"At most {LABEL_BYTES // 2**20} MiB at a time" in text
    assert f"{MOST_EVENTS:,} at a time" in text
    assert f"above {STALE_SECONDS:.0f} the service counts as dead" in text


def test_sentences_of_the_judge_are_the_ones_in_the_guide():
    told = [scenes.judged().sentence, *(one.sentence for one in scenes.judged(90, 0.05).verdicts)]
    rows = table(GUIDE, "Sentences")
    for part in ("Not yet proven: ", "worse than tolerated, beyond chance", "nothing to judge by yet"):
        assert any(part in sentence for sentence in told), part
        assert any(part.strip() in row for row in rows), part


@pytest.mark.parametrize("page", [GUIDE, RUNBOOKS])
def test_links_to_headings_lead_to_one(page):
    for name, anchor in re.findall(r"\]\(([a-z]*\.?m?d?)#([a-z-]+)\)", page.read_text(encoding="utf-8")):
        other = page.parent / name if name else page
        headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_end_state_has_a_runbook_that_begins_with_a_command():
    sections = re.split(r"^## ", RUNBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert {section.partition("\n")[0] for section in sections} >= {
        "Promoted", "Rolled back", "Inconclusive", "Held: paused", "Held: no traffic", "Held: telemetry lost",
        "Held: doubted counts", "Ledger refused", "Service down", "Bundle refused",
    }  # fmt: skip
    assert all(section.partition("\n\n")[2].startswith("    s") for section in sections)


if __name__ == "__main__":
    GUIDE.write_text(MARKED.sub(lambda found: found[1] + measured() + found[3], GUIDE.read_text(encoding="utf-8")))
