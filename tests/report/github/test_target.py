import pytest

from ci_tools.errors import ConfigError
from ci_tools.report.github import Target

ENVIRONMENT = {
    "GITHUB_REPOSITORY": "octo/model",
    "GITHUB_TOKEN": "secret",
    "GITHUB_API_URL": "https://git.example/api/v3",
}


def test_values_come_from_the_environment_as_actions_sets_them():
    expected = Target(repository="octo/model", token="secret", api_url="https://git.example/api/v3", pull_request=5)
    assert Target.from_environment(5, ENVIRONMENT) == expected


@pytest.mark.parametrize("url", [None, ""])
def test_server_is_the_public_one_unless_said(url):
    environment = {name: value for name, value in (ENVIRONMENT | {"GITHUB_API_URL": url}).items() if value is not None}
    assert Target.from_environment(5, environment).api_url == "https://api.github.com"


@pytest.mark.parametrize("name", ["GITHUB_REPOSITORY", "GITHUB_TOKEN"])
def test_missing_variable_is_named_with_the_fix(name):
    with pytest.raises(ConfigError, match=f"{name} is not set. Fix: "):
        Target.from_environment(5, ENVIRONMENT | {name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_REPOSITORY", "model"),
        ("GITHUB_REPOSITORY", "octo/model/../../other"),
        ("GITHUB_TOKEN", "secret\nx-evil: 1"),
        ("GITHUB_API_URL", "http://git.example"),
        ("GITHUB_API_URL", "git.example"),
        ("GITHUB_API_URL", "file:///etc/passwd"),
    ],
)
def test_wrong_value_is_refused_by_name_and_the_token_is_never_shown(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: ") as caught:
        Target.from_environment(5, ENVIRONMENT | {name: value})
    assert "secret" not in str(caught.value)


def test_token_is_not_part_of_the_text_of_a_target():
    assert "secret" not in repr(Target.from_environment(5, ENVIRONMENT))


def test_number_that_is_not_known_or_not_one_is_refused():
    with pytest.raises(ConfigError, match="no pull request is known"):
        _ = Target.from_environment(None, ENVIRONMENT).number
    with pytest.raises(ConfigError, match="0 is not the number of a pull request"):
        Target.from_environment(0, ENVIRONMENT)
