"""The Dockerfile: targets, pins, users, labels; and what a build may see of the repository."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from ci_tools.config import read_yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
TARGETS = ("train", "serve", "ci")


class Stage(NamedTuple):
    base: str
    lines: list[tuple[str, str]]

    def of(self, word):
        return [rest for instruction, rest in self.lines if instruction == word]


def stages():
    text = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ")
    found, name = {"": Stage("", [])}, ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(base, [])
        else:
            found[name].lines.append((word, rest.strip()))
    return found


STAGES = stages()


def lineage(name):
    """A stage and those it is based on, the nearest first."""
    while name in STAGES:
        yield STAGES[name]
        name = STAGES[name].base


def behind(name):
    """All stages that a target is made of."""
    todo, seen = [name], set()
    while todo:
        now = todo.pop()
        if now in STAGES and now not in seen:
            seen.add(now)
            todo += [STAGES[now].base, *re.findall(r"--from=(\S+)", " ".join(STAGES[now].of("COPY")))]
    return seen


def test_every_target_is_a_stage_and_every_stage_belongs_to_one():
    assert set(TARGETS) <= set(STAGES)
    assert set().union(*map(behind, TARGETS)) == set(STAGES) - {""}


def test_the_only_image_from_outside_is_pinned_by_digest():
    outside = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert outside == {"${BASE}"}
    (base,) = STAGES[""].of("ARG")
    assert re.fullmatch(r"BASE=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert ":latest" not in TEXT


@pytest.mark.parametrize("target", TARGETS)
def test_target_ends_as_a_user_with_a_fixed_number(target):
    assert STAGES[target].of("USER") == ["10001:10001"]
    words = [word for word, _ in STAGES[target].lines]
    assert "RUN" not in words[words.index("USER") :], "what comes behind it must not need root"
    (made,) = [rest for stage in lineage(target) for rest in stage.of("RUN") if "useradd" in rest]
    assert "--uid 10001" in made


@pytest.mark.parametrize("target", TARGETS)
def test_target_has_the_labels_that_registries_show(target):
    text = " ".join(rest for stage in lineage(target) for rest in stage.of("LABEL"))
    labels = dict(word.partition("=")[::2] for word in shlex.split(text))
    names = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert names == {"title", "version", "revision", "source", "licenses"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    given = {word.partition("=")[0] for rest in STAGES[target].of("ARG") for word in rest.split()}
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= given


@pytest.mark.parametrize(("target", "wanted"), [("train", True), ("ci", True), ("serve", False)])
def test_torch_is_where_it_is_needed_and_nowhere_else(target, wanted):
    (install,) = STAGES[f"environment-{target}"].of("RUN")
    extras = set(re.search(r"\[(.*)\]", install)[1].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras <= set(known)
    assert any(need.startswith("torch==") for extra in extras for need in known[extra]) == wanted


def test_pip_takes_pinned_versions_only_and_keeps_no_cache():
    settings = " ".join(STAGES["environment"].of("ENV"))
    assert "PIP_NO_CACHE_DIR=1" in settings
    assert 'PIP_CONSTRAINT="/build/constraints.txt /build/tools.txt"' in settings, "build tools heed it, too"
    for name in ("constraints.txt", "deploy/images/tools.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), name
    pinned = {line.partition("==")[0] for line in (ROOT / "deploy/images/tools.txt").read_text().splitlines()}
    assert {"cyclonedx-bom", "hatchling", "setuptools"} <= pinned


def test_tools_contradict_no_pin():
    read = [
        dict(line.lower().split("==") for line in (ROOT / name).read_text().splitlines() if "==" in line)
        for name in ("constraints.txt", "deploy/images/tools.txt")
    ]
    assert not read[0].keys() & read[1].keys()


@pytest.mark.parametrize("target", TARGETS)
def test_code_is_a_layer_above_the_dependencies(target):
    copied = [rest.split()[0] for rest in STAGES[target].of("COPY")]
    assert copied[:3] == [f"--from=environment-{target}", f"--from=environment-{target}", "--from=package"]
    early = [rest for stage in lineage(f"environment-{target}") for rest in stage.of("COPY")]
    assert not any(re.search(r"\bci_tools\s", rest) for rest in early), "a change of the code would install anew"


def test_target_that_serves_is_watched_and_keeps_its_state_outside():
    serve = STAGES["serve"]
    (check,) = serve.of("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    compile(command[-1], "health", "exec")
    assert "127.0.0.1', 8000" in command[-1]
    assert serve.of("EXPOSE") == ["8000"]
    (volume,) = serve.of("VOLUME")
    assert json.loads(*serve.of("ENTRYPOINT")) == ["switchback", "serve", "--home", volume]
    assert read_yaml(ROOT / "release.yaml"), "copied to where `serve` looks for it"


def test_no_secret_is_an_argument_or_a_variable():
    names = [rest for stage in STAGES.values() for word in ("ARG", "ENV") for rest in stage.of(word)]
    assert not re.search(r"token|secret|password|credential|_key\b", " ".join(names), re.IGNORECASE)


def test_package_finds_what_it_takes_along_and_the_dependencies_do_not_wait_for_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    stands_in = " ".join(STAGES["environment"].of("RUN"))
    copied = {name for rest in STAGES["package"].of("COPY") for name in rest.split()[:-1]}
    for name in settings["force-include"]:
        assert re.search(rf"(mkdir -p|touch) [^&]*{re.escape(name)}", stands_in), name
        assert any(Path(name).is_relative_to(place) for place in copied), name


CHECKOUT = """
.env .git/config .netrc .dvc/config.local .dvc/cache/files/x .venv/bin/python id_rsa key.pem ci_tools/key.pem
ci_tools/.env ci_tools/cli.py ci_tools/release/serve.py ci_tools/release/__pycache__/serve.pyc data/train.npz
runs/seed-1/run.json model/train.py deploy/images/install deploy/systemd/switchback.service tests/test_cli.py
constraints.txt pyproject.toml README.md LICENSE release.yaml wandb/key bundles/x/signing.pem
.github/workflows/ci.yml .github/CODEOWNERS
"""


def seen(name):
    """Whether a file of the repository reaches a build: the last pattern that matches it or a folder of it decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if not line.startswith("#") and re.match(rf"{pattern}(/.*)?$", name):
            kept = line.startswith("!")
    return kept


def test_build_sees_nothing_but_what_images_are_made_of():
    assert set(filter(seen, CHECKOUT.split())) == {
        ".github/workflows/ci.yml",
        "ci_tools/cli.py",
        "ci_tools/release/serve.py",
        "constraints.txt",
        "deploy/images/install",
        "LICENSE",
        "pyproject.toml",
        "README.md",
        "release.yaml",
    }


def test_everything_that_is_copied_is_seen_and_there():
    for rest in (rest for stage in STAGES.values() for rest in stage.of("COPY") if "--from" not in rest):
        for name in rest.split()[:-1]:
            assert (ROOT / name).exists()
            assert seen(name)


def test_linting_in_the_image_installs_nothing(tmp_path):
    (words,) = re.findall(r"^ +(make .*lint)$", (ROOT / "docs/container.md").read_text(), re.MULTILINE)
    command = ["make", "--dry-run", "--file", ROOT / "Makefile", *words.split()[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "/opt/switchback/bin/mypy" in done.stdout
    assert "pip" not in done.stdout


def test_install_script_is_one_that_a_shell_reads():
    path = ROOT / "deploy/images/install"
    assert subprocess.run(["sh", "-n", path], capture_output=True).stderr == b""
    assert path.stat().st_mode & 0o111
