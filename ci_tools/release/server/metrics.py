"""Counts of one server, as Prometheus reads them."""

import bisect
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import ci_tools

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = ("content-type", "text/plain; version=0.0.4; charset=utf-8")
_PREFIX = "switchback_server_"


class Histogram:
    """How many values lie at or below each bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterable[str]:
        """Samples: buckets are cumulative, the last one has all."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum}"
        yield f"{name}_count {total}"


class Metrics:
    """What one server counts."""

    def __init__(self, *, member: str, model: str, digest: str) -> None:
        self._labels = {"member": member, "model": model, "bundle": digest, "version": ci_tools.__version__}
        self._started = time.time()
        self.statuses: Counter[int] = Counter()
        """Inference requests by HTTP status."""
        self.invalid_outputs = 0
        self.seconds = Histogram(SECONDS)
        """Of inference requests, from head to answer."""
        self.batch_rows = Histogram(ROWS)
        self.batch_seconds = Histogram(SECONDS)

    def render(self, *, waiting: int, in_flight: int, dropped: int) -> bytes:
        """The exposition format, version 0.0.4."""
        memory, cpu = _used()
        info = ",".join(f'{key}="{_escaped(value)}"' for key, value in self._labels.items())
        families: list[tuple[str, str, str, Iterable[str] | float]] = [
            ("info", "gauge", "What this server runs.", [f"{_PREFIX}info{{{info}}} 1"]),
            ("requests_total", "counter", "Inference requests by HTTP status.", _by_code(self.statuses)),
            ("invalid_outputs_total", "counter", "Answers that broke the manifest.", self.invalid_outputs),
            (
                "request_seconds",
                "histogram",
                "From a request's head to its answer.",
                _lines(self.seconds, "request_seconds"),
            ),
            ("batch_rows", "histogram", "Rows per run of the model.", _lines(self.batch_rows, "batch_rows")),
            ("batch_seconds", "histogram", "Time of a run of the model.", _lines(self.batch_seconds, "batch_seconds")),
            ("queue_requests", "gauge", "Requests that wait for the model.", waiting),
            ("in_flight_requests", "gauge", "Inference requests without an answer yet.", in_flight),
            ("predictions_dropped_total", "counter", "Lines lost to the prediction log.", dropped),
        ]
        text = [_family(_PREFIX + name, kind, told, value) for name, kind, told, value in families]
        text.append(_family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", memory))
        text.append(_family("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", cpu))
        started = "Start time of the process since unix epoch in seconds."
        text.append(_family("process_start_time_seconds", "gauge", started, self._started))
        return "".join(text).encode()


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _used() -> tuple[int, float]:
    used = os.times()
    return resident_bytes(), used.user + used.system


def _by_code(statuses: Mapping[int, int]) -> list[str]:
    return [f'{_PREFIX}requests_total{{code="{code}"}} {count}' for code, count in sorted(statuses.items())]


def _lines(histogram: Histogram, name: str) -> Iterable[str]:
    return histogram.lines(_PREFIX + name)


def _family(name: str, kind: str, told: str, value: Iterable[str] | float) -> str:
    samples = [f"{name} {value}"] if isinstance(value, int | float) else list(value)
    return "\n".join([f"# HELP {name} {told}", f"# TYPE {name} {kind}", *samples]) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
