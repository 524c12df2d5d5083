"""Who serves: the command of each, its environment, and where it takes requests."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from ci_tools.errors import DependencyUnavailable

FOLDER = ROOT / ".venv-bench" / "serving"
PEERS = Path(__file__).parent / "peers"
INFER = "/v2/models/reference/infer"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One server."""

    name: str
    packages: tuple[str, ...] = ()
    """What its own environment holds, pinned; none: the project's environment."""
    script: str = ""
    """File of `peers`; none: ours."""
    path: str = INFER
    proxied: bool = False
    """Whether requests go through Envoy."""


_RUNTIME = "onnxruntime"
OURS, CEILING, EMPTY, KSERVE = "ours", "bare ASGI", "bare ASGI, no model", "KServe"
CONTESTANTS = (
    Contestant(name=CEILING, script="on_asgi.py"),
    Contestant(name=EMPTY, script="on_granian.py"),
    Contestant(name=OURS),
    Contestant(name="ours, through Envoy", proxied=True),
    Contestant(name=KSERVE, packages=("kserve==0.21.0", _RUNTIME), script="on_kserve.py"),
    Contestant(
        name="KServe, through Envoy", packages=("kserve==0.21.0", _RUNTIME), script="on_kserve.py", proxied=True
    ),
    Contestant(name="LitServe", packages=("litserve==0.2.19", _RUNTIME), script="on_litserve.py", path="/predict"),
    Contestant(name="BentoML", packages=("bentoml==1.4.39", _RUNTIME), script="on_bentoml.py", path="/infer"),
    Contestant(name="MLServer", packages=("mlserver==1.7.1", _RUNTIME), script="on_mlserver.py"),
)


def python(contestant: Contestant) -> Path:
    """The interpreter of a contestant's own environment, which is made first where it is not there.

    Raises:
        DependencyUnavailable: pip could not install it; the message is pip's last line.
    """
    if not contestant.packages:
        return Path(sys.executable)
    folder = FOLDER / contestant.script.removeprefix("on_").removesuffix(".py")
    interpreter, stamp = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(contestant.packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        print(f"installing {', '.join(contestant.packages)} into {folder.relative_to(ROOT)}", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", folder],
            [interpreter, "-m", "pip", "install", "--quiet", *contestant.packages],
        ):
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
                raise DependencyUnavailable(f"does not install: {lines[-1][:200]}", where=contestant.name)
        stamp.write_text(wanted)
    return interpreter
