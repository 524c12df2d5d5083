"""Scratch projects with acceptance tests of their own, judged as `switchback gate` judges."""

import json
from pathlib import Path
from xml.etree import ElementTree

PARAMS = "seeds: [1, 2]\n"
GATES = """\
gates:
  tolerated: {blocks: false}
  unsure: {inconclusive: blocks}
"""


def write(root, tests, params=PARAMS, policy=GATES):
    """`tests`: text by file name below tests/model."""
    (root / "tests/model").mkdir(parents=True)
    for name, text in tests.items():
        (root / "tests/model" / name).write_text(text)
    (root / "params.yaml").write_text(params)
    (root / "gates.yaml").write_text(policy)


def strict(path=Path("gates/verdicts.json")):
    """The file by a parser that refuses NaN and infinities."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def junit(path=Path("gates/junit.xml")):
    """Name to how the test case ended, and the suite's counts."""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    cases = {case.get("name"): ([child.tag for child in case] or ["passed"])[0] for case in suite}
    return cases, {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
