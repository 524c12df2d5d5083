import json

import pytest

from ci_tools import walk
from ci_tools.pipeline import reproduce
from ci_tools.walk import FILE, Step, Walk, read, remember


def walked(*outcomes):
    return Walk(tuple(Step(stage, outcome, ("why",), seconds) for stage, outcome, seconds in outcomes), 3.0)


def test_what_is_remembered_reads_back(tmp_path):
    done = walked(("data", "ran", 2.0), ("train@1", "cached", 0.1))
    remember(done, tmp_path)
    assert read(tmp_path) == walk.Remembered(done, {"data": 2.0})


def test_stage_keeps_the_seconds_of_its_last_real_run(tmp_path):
    remember(walked(("data", "ran", 2.0), ("train@1", "ran", 60.0)), tmp_path)
    remember(walked(("data", "restored", 0.3), ("train@1", "ran", 50.0)), tmp_path)
    remember(walked(("data", "cached", 0.1)), tmp_path)
    known = read(tmp_path)
    assert known.ran_seconds == {"data": 2.0, "train@1": 50.0}
    assert [step.outcome for step in known.walk.steps] == ["cached"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1, "walk": 3}', "\ud800", "[" * 100_000],
)
def test_damaged_file_is_as_good_as_none(tmp_path, text):
    remember(walked(("data", "ran", 2.0)), tmp_path)
    (tmp_path / FILE).write_bytes(text.encode(errors="surrogatepass"))
    assert read(tmp_path) is None
    remember(walked(("data", "cached", 0.1)), tmp_path)
    assert read(tmp_path).ran_seconds == {}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e13", "9" * 401])
@pytest.mark.parametrize("place", ['"seconds": 3.0', '"seconds": 2.0', '"data": 2.0'])
def test_file_with_seconds_that_cannot_be_is_as_good_as_none(tmp_path, number, place):
    remember(walked(("data", "ran", 2.0)), tmp_path)
    text = (tmp_path / FILE).read_text()
    assert place in text
    (tmp_path / FILE).write_text(text.replace(place, f"{place.partition(': ')[0]}: {number}"))
    assert read(tmp_path) is None


def test_disk_that_refuses_costs_nothing_else(tmp_path):
    (tmp_path / FILE.parent).write_text("a file where a folder should be")
    remember(walked(("data", "ran", 2.0)), tmp_path)
    assert read(tmp_path) is None


def test_disk_that_refuses_the_file_alone_costs_nothing_else(tmp_path):
    (tmp_path / FILE).with_name(f".{FILE.name}.new").mkdir(parents=True)
    remember(walked(("data", "ran", 2.0)), tmp_path)
    assert read(tmp_path) is None


def test_pipeline_leaves_its_walk_and_git_does_not_see_it(repository, git):
    reproduce()
    done = reproduce()
    assert read().walk == done
    assert set(read().ran_seconds) == {"double", "train@1", "train@2"}
    assert json.loads((repository / FILE).read_text())["schema_version"] == walk.SCHEMA_VERSION
    git("add", "--all")
    assert not (repository / ".git/index").read_bytes().count(b".switchback")


def test_stages_that_ran_before_another_failed_are_remembered(repository):
    (repository / "train.py").write_text("raise SystemExit(3)")
    with pytest.raises(Exception, match="exit code 3"):
        reproduce()
    assert [step.stage for step in read().walk.steps] == ["look", "double"]
    assert "double" in read().ran_seconds
