"""Whatever a run names stays text: 200 strings in every free field of the page."""

import json
import re
from html.parser import HTMLParser

import pytest

from ci_tools.gates.verdict import Outcome
from tests.report.html import cases
from tests.report.html.cases import data, page

SEEDLINGS = [
    "<script>alert(1)</script>", "</script><script>alert(1)//", "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "\"><b onmouseover='alert(1)'>", "' autofocus onfocus=alert(1) x='", "javascript:alert(1)", "<!-- <script>",
    "--><b>",
    "]]><b>", "<a href=https://evil.example>here</a>", "<style>*{display:none}</style>", "</style><b>", "</title><b>",
    "<iframe srcdoc='<b>'>", "<meta http-equiv=refresh content=0>", "<base href=//evil.example>", "<form action=//e>",
    "{{ 7 * 7 }}", "{% include 'page.html' %}", "${7*7}", "<%= 7 %>", "{{ config }}", "#{7*7}", "`alert(1)`",
    "\\u003cb>",
    "&lt;b&gt;", "&#60;b&#62;", "<b", "<", "\u2028alert(1)\u2029", "\u202egpj.exe", "a\x00b", "\x1b[2J", "\ud800",
    "<math><mi//xlink:href='data:x,<b>'>", "<details open ontoggle=alert(1)>", "<object data=x>", "<link rel=import>",
    "<template><b>", "@evil", "[x](javascript:alert(1))", "![x](https://evil.example/x.png)", "<plaintext>",
    "<noscript>",
]  # fmt: skip
WRAPPINGS = ("{}", "a{}", "{}{}", '"{}"', "{}\n")
HOSTILE = [wrapping.replace("{}", text) for text in SEEDLINGS for wrapping in WRAPPINGS][:200]


class Shape(HTMLParser):
    """Tags with the names of their attributes, in order; text left out."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *sorted(name for name, _ in attributes)))

    def handle_comment(self, comment):
        self.found.append(("comment", comment))


def full(root, text):
    """A page with `text` in every field that a run names freely."""
    names = [f"{text}{i}" for i in range(cases.LAYERS)]
    run = cases.pipeline(root, seeds=(1,), steps=40, names=names)
    record = run.root / "runs/seed-1/run.json"
    meta = json.loads(record.read_text())
    free = {
        "reason": text, "command": [text], "git_commit": text, "fingerprint": {"gpu": text, text: text},
        "params": {text: {"x": text}}, "data": {text: text}, "warnings": [text], "status": "failed",
        "resumes": [{"at": "", "from_step": 3, "stack_changes": [text]}],
        "recoveries": [{"onset_step": 5, "from_step": 2, "reason": text}],
    }  # fmt: skip
    record.write_text(json.dumps(meta | free))
    values = {"release": {text: 0.5}, "seeds": {text: {"mean": 0.5, "sd": 0.1}}, text: {text: 0.5}}
    (run.root / "evaluation/metrics.json").write_text(json.dumps(values))
    entry = {"n": 9, "positives": 3, "release": {text: 0.5}, "seeds": {"1": {text: 0.5}}}
    (run.root / "evaluation/slices.json").write_text(json.dumps({text: {text: entry}}))
    every = {"subject": text, "unit": text, "basis": text, "diagnosis": text, "remedy": text}
    evidence = {text: text, "list": [text], "table": [{text: text}], "worst slices": {text: [1.0, 0.5, 2.0]}}
    found = cases.verdicts(
        cases.verdict(text, Outcome.FAILED, evidence=evidence, **every),
        cases.verdict("slices_against_main", evidence=evidence, **every),
        cases.verdict("reproducible", Outcome.FAILED, evidence={"differing": {text: text}}, **every),
        cases.against_main(**every),
        cases.against_main(statistic=None, outcome=Outcome.INCONCLUSIVE, **every),
        commit=text,
        base=text,
        policy_changes=(text,),
        selection=text,
        started=text,
    )
    return page(run, found)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return Shape(full(tmp_path_factory.mktemp("harmless") / "run", "plain")).found


def test_there_are_two_hundred():
    assert len(set(HOSTILE)) == 200


@pytest.mark.parametrize("first", range(0, 200, 8))
def test_hostile_text_adds_no_element_and_no_attribute(first, harmless, tmp_path):
    for at, text in enumerate(HOSTILE[first : first + 8]):
        made = full(tmp_path / str(at), text)
        assert Shape(made).found == harmless, repr(text)
        inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', made, re.S)[1]
        assert not set("<>&\u2028\u2029") & set(inside)
        assert len(data(made)["gradients"]["layers"]) == cases.LAYERS
