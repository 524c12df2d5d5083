"""A limit on resident memory, which the process holds itself to.

An address-space limit (RLIMIT_AS) will not do: runtimes reserve far more than they use. A thread looks instead, also
while the model runs; what a model takes between two looks is the operating system's to refuse.
"""

import threading
import time
from collections.abc import Callable

from ci_tools.release.server.metrics import resident_bytes

EVERY_SECONDS = 0.05


def watch(limit_mb: int, end: Callable[[str], object], measured: Callable[[], int] = resident_bytes) -> None:
    """Call `end` with a sentence, once, when this process has more than `limit_mb` · 10⁶ bytes."""

    def look() -> None:
        while (used := measured()) <= limit_mb * 1_000_000:
            time.sleep(EVERY_SECONDS)
        end(f"uses {used // 1_000_000} MB of memory, and may use {limit_mb}")

    threading.Thread(target=look, name="memory", daemon=True).start()
