"""The stack that decides bits: a cached result is reused only where the fingerprint is the same."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import ci_tools

Fingerprint = dict[str, str]


def capture(threads: int) -> Fingerprint:
    """Versions, devices and flags of this machine, one string each. Imports torch.

    Args:
        threads: CPU threads that training will use.
    """
    import numpy
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "switchback": ci_tools.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda or "none",
        "cudnn": str(torch.backends.cudnn.version() or "none") if gpus else "none",
        "driver": _driver() if gpus else "none",
        "gpu": ", ".join(gpus) or "none",
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(threads),
        "deterministic": "algorithms+cudnn, tf32 off, CUBLAS_WORKSPACE_CONFIG="
        + os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    }


def differences(a: Fingerprint, b: Fingerprint) -> list[str]:
    """`name: a → b` for each entry that differs; empty means the exact lane applies."""
    return [
        f"{name}: {a.get(name, 'absent')} → {b.get(name, 'absent')}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.splitlines()[0].strip() if answer.strip() else "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines[:40] if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    family = "/".join(named.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{named.get('model name', platform.machine())} ({family})"
