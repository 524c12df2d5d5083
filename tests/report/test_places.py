import pytest

from ci_tools.gates import Outcome
from ci_tools.report import places
from ci_tools.report.places import Place
from tests.report.left import failed, verdict

PARAMS = """\
seeds: [1]
train:
  lr: 6e-3 # peak
  clip_norm: 5.0
network: {dropout: 0.1}
"""
GATES = """\
gates:
  drift: {blocks: false}
metrics:
  average_precision:
    floor: 0.7
    margin: 0.02
"""
TEST = "import pytest\n\n\n@pytest.mark.slow\ndef test_rows(run):\n    assert False\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "tests/model").mkdir(parents=True)
    for name, text in (("params.yaml", PARAMS), ("gates.yaml", GATES), ("tests/model/test_rows.py", TEST)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("one", "place"),
    [
        (failed(), Place("params.yaml", 3)),
        (failed("gradient_spikes"), Place("params.yaml", 4)),
        (failed("overfitting"), Place("params.yaml", 5)),
        (failed("quality_floor", subject="average_precision"), Place("gates.yaml", 5)),
        (failed("quality_against_main", subject="average_precision"), Place("gates.yaml", 6)),
        (failed("slices_against_main", subject="average_precision, channel=web"), Place("gates.yaml", 4)),
        (failed("quality_floor", subject="unknown"), Place("gates.yaml", 3)),
        (failed("rows", test="tests/model/test_rows.py::test_rows[a]"), Place("tests/model/test_rows.py", 5)),
        (failed("rows", test="tests/model/test_rows.py::test_gone"), Place("tests/model/test_rows.py", 1)),
        (failed("rows", test="tests/model/gone.py::test_rows"), None),
        (failed("rows"), None),
        (
            verdict("divergence", Outcome.ERROR, statistic=None, test="tests/model/test_rows.py::test_rows"),
            Place("tests/model/test_rows.py", 5),
        ),
    ],
)
def test_verdict_points_to_the_line_that_can_be_changed(root, one, place):
    assert places.of(one, root) == place


@pytest.mark.parametrize("text", ["", "[", "- a", "\x00"])
def test_broken_settings_are_no_place(root, text):
    (root / "params.yaml").write_text(text)
    assert places.of(failed(), root) is None
