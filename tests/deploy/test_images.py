"""Each target of the Dockerfile is built, and its main command runs in it as its own user."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from benchmarks.containers import IDENTITY, TARGETS, builder, why_not
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.supervisor.server import free_port
from tests.release.bundle import toy
from tests.release.server.running import wait_for

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=f"no image is built here: {why_not()}")]
UID = 10001
HOME = "/service"
SMALL = ("train.steps=60", "train.warmup=10", "seeds=[1]", "data.simulated.transactions=20000")


@pytest.fixture(scope="module")
def images():
    with builder() as made:
        base = made.local_base()
        made.names = {target: made.build(target, base, {"TORCH_INDEX": ""}) for target in TARGETS}
        yield made


@pytest.fixture
def repository(tmp_path):
    """A clone of what is committed, which belongs to the images' user."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    give_away(clone)
    return clone


def give_away(folder):
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, UID, UID, follow_symlinks=False)


@pytest.mark.parametrize("target", TARGETS)
def test_image_says_what_it_is_and_what_is_in_it(images, target):
    image = images.names[target]
    config = images.describe(image)["Docker"]["config"]
    labels = {key.rpartition(".")[2]: value for key, value in config["Labels"].items() if "opencontainers" in key}
    given = {key.lower(): value for key, value in IDENTITY.items()}
    assert labels == {"title": f"switchback {target}", "licenses": "Apache-2.0"} | given
    assert config["User"] == f"{UID}:{UID}"
    assert images.run(image, ["id", "-u"]).strip() == str(UID)
    bill = json.loads(images.run(image, ["cat", "/usr/share/sbom/python.cdx.json"]))
    parts = {part["name"].lower(): part["version"] for part in bill["components"]}
    assert parts["pydantic"]
    assert ("torch" in parts) == (target != "serve")


@pytest.mark.parametrize("target", TARGETS)
def test_image_holds_no_installer_and_its_user_may_change_nothing(images, target):
    image = images.names[target]
    tried = "import importlib.util as u, os; print(u.find_spec('pip'), os.access('/opt/switchback', os.W_OK))"
    assert images.run(image, ["/opt/switchback/bin/python", "-c", tried]).split() == ["None", "False"]
    assert images.run(image, ["switchback", "--version"]).startswith("switchback ")


def test_train_reproduces_a_run(images, repository):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    command = ["switchback", "reproduce", *settings, "train"]
    images.run(images.names["train"], command, {repository: "/repository"})
    assert json.loads((repository / "runs/seed-1/run.json").read_text())["status"] == "finished"


def test_ci_lints_tests_and_renders(images, repository):
    image, mounted = images.names["ci"], {repository: "/repository"}
    images.run(image, ["make", "-o", ".venv/.ready-dev", "BIN=/opt/switchback/bin", "lint"], mounted)
    said = images.run(image, ["pytest", "-q", "-p", "no:cacheprovider", "tests/test_errors.py"], mounted)
    assert " passed" in said
    assert "ci_tools" in images.run(image, ["python", "-c", "import ci_tools; print(ci_tools.__file__)"], mounted)


@pytest.fixture
def service(images, tmp_path):
    """The serving image, running with a key that it trusts and a home outside; yields words, home and port."""
    key = signing_key(tmp_path / "signing.pem")
    home, keys, port = tmp_path / "home", tmp_path / "keys", free_port(set())
    home.mkdir()
    keys.mkdir()
    shutil.copy(public_beside(key), keys / "ci.pub")
    bundle = toy.sealed(tmp_path / "bundles", key)
    for folder in (home, keys, tmp_path / "bundles"):
        give_away(folder)
    os.chmod(tmp_path, 0o755)
    # Not over the image's own volume: buildah mounts both at one place, in any order.
    mounted = {home: HOME, keys: "/keys", bundle: "/bundle"}
    config = images.describe(images.names["serve"])["Docker"]["config"]
    image = images.names["serve"]
    config = images.describe(image)["Docker"]["config"]
    # One container for the service, another for who asks it, as on a cluster.
    with images.container(image, mounted) as words, images.container(image, mounted) as beside:
        command = [*words, *config["Entrypoint"], "--home", HOME, "--port", str(port), "--public-key", "/keys/ci.pub"]
        process = subprocess.Popen(command, env=images.environment, start_new_session=True)
        try:
            yield beside, config, port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def status_of(port, path="/v2/health/live"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0


def test_serve_is_healthy_and_serves_a_bundle(images, service):
    words, config, port = service
    wait_for(lambda: status_of(port))
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    healthy = [word.replace("8000", str(port)) for word in check]
    assert subprocess.run([*words, *healthy], env=images.environment).returncode == 0
    sick = [word.replace("8000", str(free_port(set()))) for word in check]
    assert subprocess.run([*words, *sick], env=images.environment, capture_output=True).returncode != 0

    release = ["switchback", "release", "/bundle", "--home", HOME, "--public-key", "/keys/ci.pub"]
    done = subprocess.run([*words, *release], env=images.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: status_of(port, "/v2/models/toy/ready") == 200)
    rows = {"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/toy/infer", json.dumps({"inputs": [rows]}).encode()
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["outputs"][0]["data"] == [0.5]
