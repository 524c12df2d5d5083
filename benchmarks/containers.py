"""Images of the Dockerfile, built and run by buildah: it needs no engine that is always there, and no container.

The base image comes from a registry, or is made on the spot from Debian's packages (`local_base`).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.harness import ROOT
from ci_tools.errors import DependencyUnavailable, SwitchbackError

TARGETS = ("train", "serve", "ci")
BASE = "localhost/switchback-base"
SUITE = "bookworm"
"""Debian's release under the pinned base image, too."""
PACKAGES = ("ca-certificates", "python3", "python3-venv", "python-is-python3")
"""What the base image must have."""
IDENTITY = {"VERSION": "1.2.3", "REVISION": "abc", "SOURCE": "https://example.org"}
"""Build arguments that become labels. Always these: buildah 1.28 takes a layer for the same whatever they are."""
_SETTINGS = {"BUILDAH_ISOLATION": "chroot"}
"""Works inside of a container, too."""


def why_not() -> str:
    """What this machine lacks for building; empty where nothing is missing."""
    if os.geteuid() != 0:
        return "a base image is made by mmdebstrap, as root"
    missing = [program for program in ("buildah", "mmdebstrap") if shutil.which(program) is None]
    return f"{' and '.join(missing)} not installed (Debian has them as packages)" if missing else ""


class Builder:
    """Builds into a storage of its own.

    Args:
        folder: for storage, logs and whatever else; gigabytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._configuration = folder / "pip.conf"
        self._configuration.write_text(_pip_configuration(), encoding="utf-8")

    def local_base(self) -> str:
        """Name of a base image made from Debian's packages, with this machine's sources of them."""
        if not self._buildah("images", "--quiet", "--filter", f"reference={BASE}"):  # a new one has no layers on it
            tree = self.folder / "base"
            self._checked("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(tree))
            container = self._buildah("from", "scratch")
            self._buildah("copy", "--quiet", container, str(tree), "/")
            self._buildah("commit", "--quiet", "--rm", container, BASE)
            shutil.rmtree(tree)
        return BASE

    def build(self, target: str, base: str, arguments: Mapping[str, str]) -> str:
        """Build one target of the working tree; returns its name.

        Args:
            target: stage of the Dockerfile.
            base: image to start from.
            arguments: further build arguments.
        """
        name = f"localhost/switchback-{target}"
        given = {"BASE": base, **IDENTITY, **arguments}
        words = [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]
        # Layers are kept, so that targets share their stages. Only Docker's format knows health checks.
        options = ["--layers", "--format=docker", "--pull=never", f"--target={target}", f"--tag={name}"]
        self._buildah("build", *options, *words, *self._volumes(), str(ROOT))
        return name

    def run(self, image: str, command: Sequence[str], volumes: Mapping[Path, str] | None = None) -> str:
        """What a command prints in a fresh container of an image, as the image's own user.

        Raises:
            SwitchbackError: it ended with another exit code than 0.
        """
        with self.container(image, volumes) as words:
            return self._checked(*words, *command)

    @contextmanager
    def container(self, image: str, volumes: Mapping[Path, str] | None = None) -> Iterator[list[str]]:
        """A container of an image; yields the words that go before a command to run in it, as often as wanted."""
        container = self._buildah("from", "--pull=never", image)
        shared = [f"--volume={outside}:{inside}" for outside, inside in (volumes or {}).items()]
        try:
            yield ["buildah", *self._storage, "run", *shared, container, "--"]
        finally:
            self._buildah("rm", container)

    def describe(self, image: str) -> dict[str, object]:
        """The image's configuration, as Docker writes it: `Docker.config` holds user, labels and health check."""
        found: dict[str, object] = json.loads(self._buildah("inspect", "--type=image", image))
        return found

    def layers(self, image: str) -> list[int]:
        """Bytes of each layer, uncompressed, the lowest first."""
        manifest = json.loads(self._buildah("inspect", "--type=image", "--format={{.Manifest}}", image))
        return [layer["size"] for layer in manifest["layers"]]

    @property
    def environment(self) -> dict[str, str]:
        """For processes that run commands in containers themselves."""
        return os.environ | _SETTINGS

    @property
    def _storage(self) -> list[str]:
        return [f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}"]

    def _volumes(self) -> list[str]:
        """The way to packages here, which a build must not put into an image."""
        places = {self._configuration: "/etc/pip.conf", **{path: str(path) for path in _local_places()}}
        return [f"--volume={outside}:{inside}:ro" for outside, inside in places.items()]

    def _buildah(self, *words: str) -> str:
        return self._checked("buildah", *self._storage, *words).strip()

    def _checked(self, *words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, env=self.environment, cwd=self.folder)
        if done.returncode:
            last = "\n".join([*done.stdout.strip().splitlines()[-10:], *done.stderr.strip().splitlines()[-10:]])
            raise SwitchbackError(f"exit {done.returncode}: {last}", where=" ".join(words[:6]))
        return done.stdout


@contextmanager
def builder() -> Iterator[Builder]:
    """A builder whose storage is removed afterwards, or kept in SWITCHBACK_IMAGES where that names a folder.

    Raises:
        DependencyUnavailable: this machine cannot build.
    """
    if reason := why_not():
        raise DependencyUnavailable(reason, where="images", fix="install it, or build elsewhere: docs/container.md")
    if kept := os.environ.get("SWITCHBACK_IMAGES"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Builder(Path(kept))
        return
    with tempfile.TemporaryDirectory(prefix="switchback-images-", ignore_cleanup_errors=True) as folder:
        yield Builder(Path(folder))


def _pip_settings() -> dict[str, str]:
    """Of all of pip's configuration files and variables, the last word of each."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'")
    return settings


def _pip_configuration() -> str:
    known = {key: value for key, value in _pip_settings().items() if key not in ("constraint", "require-virtualenv")}
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in known.items()), ""])


def _local_places() -> list[Path]:
    """Folders and certificates on this machine that pip's configuration names."""
    words = [word for value in _pip_settings().values() for word in value.split()]
    paths = [Path(urlsplit(word).path) for word in words if word.startswith(("/", "file:///"))]
    whole = [Path(*path.parts[:3]) if path.name == "simple" else path for path in paths]
    return sorted({path for path in whole if path.exists()})
