"""The page in headless Chromium, served as the service serves it."""

from contextlib import contextmanager

import pytest

from benchmarks import browser
from ci_tools.release.control import Phase
from tests.release.api import scenes
from tests.release.api.scenes import Staged
from tests.release.api.serving import serving, until
from tests.release.api.test_page import SCENES, hostile, hostile_ledger
from tests.report.hostile import HTML

pytestmark = pytest.mark.skipif(not browser.PROGRAM, reason="chromium is not installed")

TITLE = "document.querySelector('h1')?.textContent.trim() ?? ''"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
ENABLED = "[...document.querySelectorAll('[data-order]:enabled')].map(button => button.dataset.order)"
TOKEN = "s3cret"


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as running:
        yield running


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A page to begin at: the browser opens files, and goes to addresses from there."""
    path = tmp_path_factory.mktemp("blank") / "blank.html"
    path.write_text("<title>blank</title>")
    return path


@pytest.fixture
def opened(chromium, blank):
    @contextmanager
    def of(control, token=None, **window):
        with serving(control, token=token) as address, chromium.opened(blank, **window) as tab:
            tab.call("Page.navigate", url=f"{address}/?token={token}" if token else f"{address}/")
            if window.get("scripts", True):
                until(lambda: tab.evaluate(TITLE))
                tab.settle()
            yield tab

    return of


def shows(tab, title):
    until(lambda: title in tab.evaluate(TITLE))


@pytest.mark.parametrize("scene", SCENES)
def test_page_opens_without_a_complaint_and_asks_nobody_else(scene, opened):
    with opened(Staged(scene(), scenes.ramp())) as tab:
        until(lambda: tab.evaluate("1") and any(url.endswith("/news") for url in tab.requests))
        tab.settle()
        assert tab.complaints == []
        addresses = [url for url in tab.requests if not url.startswith("file:")]
        assert all(url.startswith("http://127.0.0.1:") for url in addresses)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_page_fits_the_window_in_light_and_dark(opened, width, phone, dark):
    with opened(Staged(scenes.ramping(), scenes.ramp()), width=width, phone=phone, dark=dark) as tab:
        assert tab.evaluate(OVERFLOW) <= 0
        metrics = len(scenes.POLICY.metrics)
        assert tab.evaluate("document.querySelectorAll('.plot canvas').length") == metrics + 1
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(", "))) < 200) == dark


def test_page_follows_the_release_by_itself(opened):
    control = Staged(scenes.mirroring(), scenes.ramp()[:1])
    with opened(control) as tab:
        shows(tab, "Mirroring")
        assert tab.evaluate("document.querySelectorAll('.plot canvas').length") == 0
        control.now, control.ledger = scenes.ramping(), scenes.ramp()
        shows(tab, "Ramping")
        readout = "document.querySelector('#weights .readout').textContent"
        until(lambda: "16 % of the traffic" in tab.evaluate(readout))
        assert tab.evaluate("document.querySelectorAll('#metrics canvas').length") == len(scenes.POLICY.metrics)
        assert "16 %: Not yet proven" in tab.evaluate("document.querySelector('#ledger tbody tr').textContent")
        control.now = scenes.rolled_back()
        shows(tab, "Rolled back")
        assert tab.evaluate("document.title").startswith("Rolled back")
        assert "Rolled back" in tab.evaluate("document.getElementById('live').textContent")
        assert tab.complaints == []


def test_service_that_falls_silent_is_said_to_be_and_found_again(chromium, blank):
    control = Staged(scenes.ramping(), scenes.ramp())
    silent = "!document.getElementById('silent').hidden"
    with chromium.opened(blank) as tab:
        with serving(control) as address:
            tab.call("Page.navigate", url=address)
            shows(tab, "Ramping")
            assert not tab.evaluate(silent)
        until(lambda: tab.evaluate(silent))
        assert "Ramping" in tab.evaluate(TITLE)
        control.now = scenes.held()
        with serving(control, port=int(address.rpartition(":")[2])):
            shows(tab, "Held")
            assert not tab.evaluate(silent)


def test_orders_that_make_no_sense_cannot_be_given(opened):
    control = Staged(scenes.idle())
    with opened(control) as tab:
        assert tab.evaluate(ENABLED) == []
        assert "there is nothing to roll back" in tab.evaluate("document.getElementById('why').textContent")
        control.now = scenes.ramping()
        until(lambda: tab.evaluate(ENABLED) == ["pause", "rollback", "promote"])


def press(tab, key, code=None, **more):
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **more)


def test_order_is_given_by_keyboard_with_name_and_reason(opened):
    control = Staged(scenes.ramping(), scenes.ramp())
    enter = {"text": "\r", "windowsVirtualKeyCode": 13}
    with opened(control, TOKEN) as tab:
        tab.evaluate("document.querySelector('[data-order=rollback]').focus()")
        press(tab, "Enter", **enter)
        until(lambda: tab.evaluate("document.getElementById('dialog').open"))
        assert tab.evaluate("document.activeElement.name") == "actor"
        tab.call("Input.insertText", text="Ada")
        press(tab, "Enter", **enter)
        tab.settle()
        assert control.orders == []
        tab.evaluate("document.querySelector('[name=reason]').focus()")
        tab.call("Input.insertText", text="wrong <b>scores</b>")
        press(tab, "Enter", **enter)
        shows(tab, "Rolled back")
        assert control.orders == [("rollback", "Ada", "wrong <b>scores</b>")]
        assert not tab.evaluate("document.getElementById('dialog').open")


def test_order_that_is_refused_says_why_in_the_dialog(opened):
    control = Staged(scenes.ramping())
    control.roll_back = Staged(scenes.idle()).roll_back
    with opened(control) as tab:
        tab.evaluate("document.querySelector('[data-order=rollback]').click()")
        tab.evaluate("for (const one of document.querySelectorAll('dialog input')) one.value = 'x'")
        tab.evaluate("document.getElementById('confirm').click()")
        told = "document.querySelector('.refused').textContent"
        until(lambda: tab.evaluate(told) == "there is nothing to roll back. Fix: look at the status")
        assert tab.evaluate("document.getElementById('dialog').open")


def test_token_leaves_the_address_and_the_cookie_does_the_rest(opened):
    control = Staged(scenes.ramping())
    with opened(control, TOKEN) as tab:
        assert tab.evaluate("location.search") == ""
        assert tab.evaluate("document.cookie") == ""
        control.now = scenes.held()
        shows(tab, "Held")


@pytest.mark.parametrize("text", HTML[:8])
def test_hostile_names_run_nothing(text, opened):
    control = Staged(scenes.mirroring())
    with opened(control) as tab:
        control.now, control.ledger = hostile(text), hostile_ledger(text)
        shows(tab, "Held")
        tab.settle()
        assert tab.complaints == []
        assert tab.evaluate("document.querySelectorAll('main img, iframe, object, b[onmouseover]').length") == 0


def test_names_of_any_length_fit_the_window(opened):
    for width in (390, 1280):
        with opened(Staged(hostile("x" * 2000), hostile_ledger("x" * 2000)), width=width) as tab:
            assert tab.evaluate(OVERFLOW) <= 0


def test_curve_is_read_by_keys_and_spoken(opened):
    with opened(Staged(scenes.ramping(), scenes.ramp())) as tab:
        tab.evaluate("document.querySelector('#metrics .plot').focus()")
        press(tab, "Home")
        told = until(lambda: tab.evaluate("document.getElementById('live').textContent"))
        assert told.startswith("events.errors: at ")
        assert "harm" in told


def test_everything_that_takes_keys_has_a_name(opened):
    nameless = """[...document.querySelectorAll('a[href], button, input, [tabindex]')].filter(
      x => !(x.ariaLabel || x.getAttribute('aria-labelledby') || x.textContent.trim()
             || x.closest('label')?.textContent.trim())).map(x => x.outerHTML)"""
    with opened(Staged(scenes.ramping(), scenes.ramp())) as tab:
        assert tab.evaluate(nameless) == []


def test_verdicts_are_there_without_scripts_and_orders_are_not(opened):
    with opened(Staged(scenes.rolled_back()), scripts=False) as tab:

        def count(selector):
            try:
                root = tab.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
                return len(tab.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])
            except RuntimeError:  # the page was replaced between the two
                return None

        until(lambda: count(".judged tbody") == len(scenes.POLICY.metrics))
        until(lambda: count(".orders[hidden]") == 1)


def test_news_leave_the_focus_where_it_is(opened):
    control = Staged(scenes.ramping(), scenes.ramp())
    with opened(control) as tab:
        tab.evaluate("document.querySelector('[data-order=rollback]').focus()")
        control.now = scenes.ramping().model_copy(update={"release": scenes.release(Phase.DECIDING)})
        shows(tab, "Deciding")
        assert tab.evaluate("document.activeElement.dataset.order") == "rollback"
