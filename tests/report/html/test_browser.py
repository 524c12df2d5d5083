"""The page in headless Chromium, spoken to by the DevTools protocol."""

import json
import random

import numpy as np
import pytest

from benchmarks import browser
from tests.report.html import cases
from tests.report.html.test_hostile import SEEDLINGS, full

pytestmark = pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed")

DRAWN = "document.querySelectorAll('.plot canvas').length"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAINTED = """(id) => {
  const canvas = document.querySelector(`[data-chart="${id}"] canvas`), colors = new Set();
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) colors.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
  return colors.size;
}"""


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as running:
        yield running


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """Page by kind of verdicts."""
    folder = tmp_path_factory.mktemp("pages")
    found = {"passing": cases.passing(), "failing": cases.failing(), "undecided": cases.undecided()}
    for name, verdicts in (found | {"first": cases.first_run()}).items():
        cases.page(finished, verdicts, folder / f"{name}.html")
    return folder


@pytest.mark.parametrize("name", ["passing", "failing", "undecided", "first"])
def test_page_opens_without_a_complaint_and_asks_nobody(name, written, chromium):
    with chromium.opened(written / f"{name}.html") as tab:
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith("file:")] == []
        assert tab.evaluate(DRAWN) >= 9


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_page_fits_the_window_in_light_and_dark(width, phone, dark, written, chromium):
    with chromium.opened(written / "failing.html", width=width, phone=phone, dark=dark) as tab:
        assert tab.evaluate(OVERFLOW) <= 0
        for chart in ("loss", "map", "histograms", "ratios"):
            assert tab.evaluate(f"({PAINTED})('{chart}')") > 5, chart
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(", "))) < 200) == dark


def test_hostile_names_run_nothing(tmp_path, chromium):
    for at, text in enumerate(SEEDLINGS[:6]):
        root = tmp_path / str(at)
        full(root, text)
        with chromium.opened(root / "report/index.html") as tab:
            assert tab.complaints == []
            assert tab.evaluate("document.querySelectorAll('img, iframe, object, form, b[onmouseover]').length") == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_any_length_fit_the_window(width, tmp_path, chromium):
    full(tmp_path, "x" * 3000)
    with chromium.opened(tmp_path / "report/index.html", width=width) as tab:
        assert tab.evaluate(OVERFLOW) <= 0
        assert tab.complaints == []


def test_cursor_of_one_chart_moves_in_all_and_speaks_when_keys_move_it(written, chromium):
    with chromium.opened(written / "passing.html") as tab:
        tab.evaluate("document.querySelector('[data-chart=loss] .plot').focus()")
        for key in ("End", "ArrowLeft"):
            tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
        tab.settle()
        told = tab.evaluate("[...document.querySelectorAll('[data-kind=curve] .readout')].map(x => x.textContent)")
        assert told[0].startswith(f"step {cases.STEPS - 2}")
        assert sum(text.startswith("step ") for text in told) == len(told)
        assert tab.evaluate("document.getElementById('live').textContent").startswith(f"step {cases.STEPS - 2}")


def test_heat_map_is_read_by_keys_and_shows_the_layer_chosen(written, chromium):
    with chromium.opened(written / "passing.html") as tab:
        tab.evaluate("document.querySelector('[data-chart=map] .plot').focus()")
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
            tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
        told = tab.evaluate("document.querySelector('[data-chart=map] .readout').textContent")
        assert "blocks.1.weight" in told
        assert tab.evaluate("document.querySelector('[data-chart=histograms] select').value") == "2"


def test_seed_that_is_switched_off_leaves_every_curve(written, chromium):
    with chromium.opened(written / "passing.html") as tab:
        values = "document.querySelectorAll('[data-chart=loss] .readout .value').length"
        assert tab.evaluate(values) == len(cases.SEEDS)
        tab.evaluate("document.querySelector('#seeds button:nth-child(2)').click()")
        assert tab.evaluate(values) == len(cases.SEEDS) - 1


def test_scale_switches_between_linear_and_logarithmic(written, chromium):
    with chromium.opened(written / "passing.html") as tab:
        button = "document.querySelector('[data-chart=loss] .tools button')"
        before = tab.evaluate(f"{button}.getAttribute('aria-pressed')")
        tab.evaluate(f"{button}.click()")
        assert tab.evaluate(f"{button}.getAttribute('aria-pressed')") != before
        assert tab.complaints == []


@pytest.mark.parametrize(
    "change",
    [
        lambda loss: 0 * loss,
        lambda loss: loss * np.nan,
        lambda loss: -loss,
        lambda loss: loss * 1e-40,
        lambda loss: np.where(np.arange(len(loss)) == 30, 3e38, loss),
        lambda loss: np.where(np.arange(len(loss)) > 30, np.inf, loss),
        lambda loss: loss * 0 + 0.0097,
    ],
    ids=["zero", "nan", "negative", "tiny", "huge", "infinite", "constant"],
)
def test_loss_of_any_kind_is_drawn_on_either_scale(change, tmp_path, chromium):
    run = cases.pipeline(tmp_path, seeds=(1, 2), steps=60)
    cases.change_loss(tmp_path / "runs/seed-1", change)
    cases.page(run, cases.failing())
    with chromium.opened(tmp_path / "report/index.html") as tab:
        tab.evaluate("document.querySelector('[data-chart=loss] .tools button')?.click()")
        tab.settle()
        assert tab.complaints == []
        assert tab.evaluate(f"({PAINTED})('loss')") > 2


def test_logarithmic_axis_has_a_few_places_within_any_range(written, chromium):
    rng = random.Random(0)
    ranges = [(10 ** rng.uniform(-12, 6), 10 ** rng.uniform(0.02, 14)) for _ in range(2000)]
    with chromium.opened(written / "passing.html") as tab:
        asked = json.dumps([(low, low * ratio) for low, ratio in ranges])
        found = tab.evaluate(f"{asked}.map(([low, high]) => logSplits(low, high))")
    for (low, ratio), places in zip(ranges, found, strict=True):
        assert 1 <= len(places) <= 10, (low, ratio)
        assert all(low <= place <= low * ratio for place in places)
        assert places == sorted(set(places))


def test_verdicts_are_there_without_scripts(written, chromium):
    with chromium.opened(written / "failing.html", scripts=False) as tab:
        shown = tab.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        found = tab.call("DOM.querySelectorAll", nodeId=shown, selector="tbody.verdict")["nodeIds"]
        assert len(found) == 3


def test_printing_opens_what_is_folded_and_folds_it_again(written, chromium):
    folded = "document.querySelectorAll('details:not([open])').length"
    with chromium.opened(written / "failing.html") as tab:
        before = tab.evaluate(folded)
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.evaluate(folded) == tab.evaluate("document.querySelectorAll('.passed .evidence').length") > 0
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.evaluate(folded) == before
        assert len(tab.call("Page.printToPDF")["data"]) > 10_000


def test_everything_that_takes_keys_has_a_name(written, chromium):
    nameless = """[...document.querySelectorAll('a[href], button, select, summary, [tabindex]')].filter(
      x => !(x.ariaLabel || x.textContent.trim() || x.closest('label')?.textContent.trim())).length"""
    with chromium.opened(written / "failing.html") as tab:
        assert tab.evaluate(nameless) == 0
