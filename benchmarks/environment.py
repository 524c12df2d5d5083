"""The peers' own virtual environment, .venv-bench; the project's .venv never sees them."""

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT
from ci_tools.errors import DependencyUnavailable

FOLDER = ROOT / ".venv-bench"
PINS = ("benchmarks/requirements.txt", "constraints.txt", "pyproject.toml")


def python() -> Path:
    """The interpreter of .venv-bench, installed first where that is missing or its pins changed.

    Raises:
        DependencyUnavailable: pip could not install the pins.
    """
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / ".ready"
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in PINS)).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        print(f"installing the peers into {FOLDER.name}", file=sys.stderr)
        install = [interpreter, "-m", "pip", "install", "--quiet", "--editable", "."]
        install += ["--requirement", "benchmarks/requirements.txt", "--constraint", "constraints.txt"]
        for command in ([sys.executable, "-m", "venv", FOLDER], install):
            if subprocess.run([str(word) for word in command], cwd=ROOT).returncode:
                fix = "read the message above, or measure without peers: --here"
                raise DependencyUnavailable("the peers could not be installed", where=FOLDER.name, fix=fix)
        stamp.write_text(digest)
    return interpreter
