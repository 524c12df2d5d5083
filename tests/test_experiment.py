import json

import pytest

from ci_tools import experiment
from ci_tools.errors import ConfigError, DataError, DependencyUnavailable, TrainingFailed

PARAMS = """\
# The experiment.
seeds: [1, 2] # the first is the release
network:
  width: 8 # units
data:
  label: ""
"""
SCHEMA = """\
from pydantic import model_validator
from ci_tools.config import Config

class Network(Config):
    width: int = 8
    depth: int = 2

class Data(Config):
    label: str = ""

class Params(Config):
    seeds: tuple[int, ...]
    network: Network
    data: Data = Data()

    @model_validator(mode="after")
    def _seeds_differ(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must differ")
        return self
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose schema module has a name that no other test imports."""
    monkeypatch.chdir(tmp_path)
    module = f"schema_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(SCHEMA)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "pyproject.toml").write_text(f'[tool.switchback]\nparams = "{module}:Params"\n')
    return tmp_path


def text(repository):
    return (repository / "params.yaml").read_text()


def test_change_writes_only_the_value_and_keeps_comments(repository):
    assert experiment.change(["network.width=16", "seeds=[3, 4, 5]"]) == [
        "network.width 8 → 16",
        "seeds [1, 2] → [3, 4, 5]",
    ]
    assert text(repository) == PARAMS.replace("width: 8", "width: 16").replace("[1, 2]", "[3, 4, 5]")


@pytest.mark.parametrize("comment", ["", " # right", "\n    # below", " # right\n\n    # below"])
@pytest.mark.parametrize("value", ["[3]", "[]", "null", "{}", "5"])
def test_a_list_that_is_written_one_item_a_line_takes_any_value(tmp_path, monkeypatch, comment, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"a:\n  seeds:{comment}\n  - 1\n  - 2\n  width: 3\nb: 4\n")
    experiment.change([f"a.seeds={value}"])
    assert experiment.values() == {"a": {"seeds": json.loads(value), "width": 3}, "b": 4}


def test_change_to_the_same_value_says_nothing(repository):
    assert experiment.change(["network.width=8"]) == []
    assert text(repository) == PARAMS


def test_change_may_set_a_key_that_the_file_leaves_to_its_default(repository):
    assert experiment.change(["network.depth=3"]) == ["network.depth null → 3"]
    assert "depth: 3" in text(repository)


@pytest.mark.parametrize("value", [">50K", "1", "yes: no", "2020-01-01", "?", ""])
def test_text_settings_take_any_text(repository, value):
    experiment.change([f"data.label={value}"])
    assert experiment.read_yaml("params.yaml")["data"]["label"] == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.width=wide", "network.width"),
        ("network.widht=9", "did you mean `network.width`"),
        ("network.width.more=9", "network.width.more: unknown key"),
        ("seeds=3", "seeds"),
        ("seeds=[1, 1]", "^--set: seeds must differ$"),
        ("network.width", "not a setting"),
        ("=3", "not a setting"),
    ],
)
def test_refused_setting_names_the_problem_and_writes_nothing(repository, setting, message):
    with pytest.raises(ConfigError, match=message):
        experiment.change(["network.width=16", setting])
    assert text(repository) == PARAMS
    assert not [path for path in repository.iterdir() if path.name.startswith(".params")]


def run_with_settings(error, meanwhile):
    """A run that ends in an error."""
    with experiment.changed(["network.width=16"]) as lines:
        meanwhile(lines)
        raise error


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ConfigError("refused"), False),
        (DependencyUnavailable("no disk"), False),
        (TrainingFailed("it diverged"), True),
        (KeyboardInterrupt(), True),
    ],
)
def test_settings_of_a_run_that_is_refused_are_taken_back(repository, error, kept):
    during = []
    with pytest.raises(type(error)):
        run_with_settings(error, lambda lines: during.extend([*lines, text(repository)]))
    assert during == ["network.width 8 → 16", PARAMS.replace("width: 8", "width: 16")]
    assert text(repository) == (PARAMS.replace("width: 8", "width: 16") if kept else PARAMS)


def test_settings_of_a_run_that_ends_well_stay(repository):
    with experiment.changed(["network.width=16"]):
        pass
    assert "width: 16" in text(repository)


def test_what_somebody_wrote_meanwhile_is_not_taken_back(repository):
    theirs = PARAMS.replace("8", "32")
    with pytest.raises(ConfigError):
        run_with_settings(ConfigError("refused"), lambda _: (repository / "params.yaml").write_text(theirs))
    assert "width: 32" in text(repository)


def test_without_settings_params_may_be_missing(repository):
    (repository / "params.yaml").unlink()
    with experiment.changed([]) as lines:
        assert lines == []


def test_without_schema_only_known_keys_may_change(repository):
    (repository / "pyproject.toml").unlink()
    assert experiment.schema() is None
    assert experiment.change(["network.width=16"]) == ["network.width 8 → 16"]
    with pytest.raises(ConfigError, match=r"network\.depth: unknown key"):
        experiment.change(["network.depth=3"])


def test_value_is_the_one_of_the_file_or_the_default_of_the_schema(repository):
    assert experiment.value("network.width") == 8
    assert experiment.value("network.depth") == 2
    with pytest.raises(ConfigError, match=r"params\.yaml: network\.height: unknown key"):
        experiment.value("network.height")


def test_check_reports_the_file_and_key(repository):
    experiment.check()
    (repository / "params.yaml").write_text(PARAMS.replace("width", "wdith"))
    with pytest.raises(ConfigError, match=r"params\.yaml: network\.wdith: unknown key"):
        experiment.check()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ('"model.params"', "must name a class"),
        ('"no.such:Params"', "cannot be imported"),
        ('"model.params:Nothing"', "not a class derived"),
        ('"json:JSONDecoder"', "not a class derived"),
        ("[", "not valid TOML"),
    ],
)
def test_wrong_schema_setting_is_one_clear_error(repository, name, message):
    (repository / "pyproject.toml").write_text(f"[tool.switchback]\nparams = {name}\n")
    with pytest.raises(ConfigError, match=message):
        experiment.check()


def test_fingerprint_changes_with_the_content_of_the_input(repository, monkeypatch):
    monkeypatch.setattr("ci_tools.repro.fingerprint.capture", lambda threads: {"threads": str(threads)})
    table, out = repository / "rows.csv", repository / "fingerprint"
    table.write_text("a,b\n")
    experiment.write_fingerprint(2, "rows.csv", out)
    first = (out / "inputs.json").read_text()
    assert json.loads(first)["rows.csv"]["bytes"] == 4
    assert json.loads((out / "stack.json").read_text()) == {"threads": "2"}

    experiment.write_fingerprint(2, "rows.csv", out)
    assert (out / "inputs.json").read_text() == first
    table.write_text("a,c\n")
    experiment.write_fingerprint(2, "rows.csv", out)
    assert (out / "inputs.json").read_text() != first
    experiment.write_fingerprint(2, "", out)
    assert json.loads((out / "inputs.json").read_text()) == {}


@pytest.mark.parametrize(("path", "message"), [("absent.csv", "no such file"), (".", "cannot be read")])
def test_fingerprint_of_an_unreadable_input_is_one_clear_error(repository, path, message):
    with pytest.raises(DataError, match=message):
        experiment.write_fingerprint(2, path, repository / "fingerprint")
    assert not (repository / "fingerprint").exists()
