import json

import pytest
from pydantic import Field

from ci_tools.config import Config, digest, leaves, load, read_yaml, validate
from ci_tools.errors import ConfigError


class Inner(Config):
    rate: float = Field(default=0.1, gt=0)
    """Learning rate."""
    names: tuple[str, ...] = ()


class Outer(Config):
    inner: Inner = Inner()
    named: dict[str, Inner] = Field(default_factory=dict)
    count: int


def message(raw):
    with pytest.raises(ConfigError) as caught:
        validate(raw, Outer, where="x.yaml")
    return str(caught.value)


def test_yaml_1_2_numbers_and_lists_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("count: 3\ninner:\n  rate: 1e-3\n  names: [a, b]\n")
    assert load(path, Outer) == Outer(count=3, inner=Inner(rate=0.001, names=("a", "b")))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"count": 1, "inner": {"rat": 1.0}}, "x.yaml: inner.rat: unknown key. Fix: did you mean `inner.rate`?"),
        ({"count": 1, "inner": {"zzz": 1.0}}, "x.yaml: inner.zzz: unknown key. Fix: use one of rate, names"),
        (
            {"count": 1, "named": {"my own": {"rat": 1.0}}},
            "x.yaml: named.my own.rat: unknown key. Fix: did you mean `named.my own.rate`?",
        ),
        ({}, "x.yaml: count: required key is missing. Fix: add it"),
    ],
)
def test_unknown_and_missing_keys_are_named_with_the_fix(raw, expected):
    assert message(raw) == expected


@pytest.mark.parametrize("rate", [0, -1.0, "fast", True, None, [1.0], float("nan"), float("inf")])
def test_bad_value_names_key_and_value(rate):
    text = message({"count": 1, "inner": {"rate": rate}})
    assert text.startswith("x.yaml: inner.rate: ")
    assert "got" in text


def test_number_as_text_is_refused():
    assert "got '3'" in message({"count": "3"})


def test_keys_of_further_errors_are_told():
    assert message({"count": "3", "inner": {"rate": 0}}).endswith("(also wrong: count)")
    named = {str(i): {"rate": 0} for i in range(7)}
    assert message({"count": "3", "named": named}).endswith("named.4.rate, named.5.rate …)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\n", "not valid YAML"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("- 1\n", "must hold a mapping"),
        ("", "must hold a mapping"),
    ],
)
def test_broken_yaml_names_the_file(tmp_path, text, expected):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"x\.yaml.*{expected}"):
        read_yaml(path)


def test_missing_and_binary_files_are_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "x.yaml")


def test_digest_ignores_order_and_defaults_spelt_out():
    a = Outer(count=3)
    assert digest(a) == digest({"inner": {"names": [], "rate": 0.1}, "named": {}, "count": 3})
    assert digest(a) != digest(Outer(count=4))


def test_leaves_are_dotted():
    assert leaves({"a": {"b": 1, "c": [2]}, "d": None}) == {"a.b": 1, "a.c": [2], "d": None}


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer(count=3).count = 4


def test_docstrings_reach_the_json_schema():
    assert json.loads(json.dumps(Outer.model_json_schema()))["$defs"]["Inner"]["properties"]["rate"]["description"]
