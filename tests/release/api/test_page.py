"""The page as it is sent: what it says without scripts, what it may do, and names that try to be more than names."""

import json
import re
from html.parser import HTMLParser

import pytest

from ci_tools.release.api import app
from ci_tools.release.api.page import PARTS
from tests.release.api import scenes
from tests.release.api.asking import Asking
from tests.release.api.scenes import CHAMPION, Staged
from tests.report.hostile import HTML, UNSEEN

SCENES = [scenes.idle, scenes.mirroring, scenes.ramping, scenes.held, scenes.rolled_back, scenes.watching]


def client(control):
    return Asking(app(control))


class Outline(HTMLParser):
    """Elements with their attributes, and the text outside of styles and scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.text += data


@pytest.mark.parametrize("scene", SCENES)
def test_page_without_scripts_says_all_that_counts(scene):
    status = scene()
    text = " ".join(Outline(client(Staged(status, scenes.ramp())).get("/").text).text.split())
    assert status.champion[:12] in text
    for verdict in status.decision.verdicts if status.decision else ():
        assert " ".join(verdict.sentence.split()) in text
    for member in status.actual.members:
        assert member.name in text
        assert member.reason in text
    for warning in status.warnings:
        assert warning in text
    if status.release:
        assert status.release.reason in text


def test_page_is_loaded_anew_only_where_no_script_does_it():
    text = client(Staged()).get("/").text
    assert re.findall(r"<noscript>(<meta http-equiv=\"refresh\"[^>]*>)</noscript>", text)
    assert text.count('http-equiv="refresh"') == 1


def test_page_may_ask_this_service_only_and_runs_its_own_scripts_only():
    answer = client(Staged(scenes.ramping())).get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", policy["script-src"])
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", policy["style-src"])
    for tag, attributes in Outline(answer.text).elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert "://" not in str(attributes.get("href", "")) + str(attributes.get("src", ""))


def hostile(text):
    """A status in which every free text is this one."""
    status = scenes.held()
    member = scenes.canary(reason=text).model_copy(update={"name": text})
    verdicts = tuple(one.model_copy(update={"metric": text, "sentence": text, "unit": text})
                     for one in status.decision.verdicts[:1])  # fmt: skip
    return status.model_copy(
        update={
            "warnings": (text,),
            "release": status.release.model_copy(update={"reason": text, "id": text}),
            "decision": status.decision.model_copy(update={"sentence": f"Judged {text}", "verdicts": verdicts}),
            "actual": scenes.actual(member),
        }
    )


def hostile_ledger(text):
    (event,) = scenes.events((text, {"reason": text, text: text}))
    return [event.model_copy(update={"actor": text, "release": text, "sha256": text})]


@pytest.mark.parametrize("text", [*HTML, *UNSEEN])
def test_names_make_no_elements(text):
    control = Staged(hostile(text), hostile_ledger(text))
    plain = Staged(hostile("plain"), hostile_ledger("plain"))
    outlines = [Outline(client(one).get("/").text) for one in (control, plain)]
    tags = [[tag for tag, _ in outline.elements] for outline in outlines]
    assert tags[0] == tags[1]
    names = [[sorted(attributes) for _, attributes in outline.elements] for outline in outlines]
    assert names[0] == names[1]


@pytest.mark.parametrize("scene", SCENES)
def test_news_hold_every_part_as_the_page_does(scene):
    control = Staged(scene(), scenes.ramp())
    page, news = client(control).get("/").text, client(control).get("/news").json()
    assert set(news["parts"]) == set(PARTS)
    for part in news["parts"].values():
        assert part in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data == {key: value for key, value in news.items() if key != "parts"}


def test_digests_are_shown_short_and_can_be_had_whole():
    page = client(Staged()).get("/").text
    assert f'title="{CHAMPION}"' in page
    assert f">{CHAMPION[:12]}<" in page


def test_what_the_judge_saw_of_a_release_that_has_ended_is_told_as_past():
    for scene, told in ((scenes.ramping, "sees"), (scenes.watching, "sees"), (scenes.rolled_back, "saw")):
        assert f"What the judge {told}</h2>" in client(Staged(scene())).get("/").text


def test_commands_in_sentences_are_marked_as_code_and_stay_harmless():
    warning = "Say `switchback resume` or <b>`<i>`</b>."
    text = client(Staged(scenes.ramping().model_copy(update={"warnings": (warning,)}))).get("/").text
    assert "Say <code>switchback resume</code> or &lt;b&gt;<code>&lt;i&gt;</code>&lt;/b&gt;." in text
