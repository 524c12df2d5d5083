"""Model servers side by side: the same ONNX model, the same request, the same load.

Each turn starts one server, warms it, loads it and ends it; a round gives every server one turn, in a random order.
"""

import json
import random
import sys
import tempfile
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Arm, Result, measuring
from benchmarks.serving import load
from benchmarks.serving.contestants import CEILING, CONTESTANTS, EMPTY, KSERVE, OURS, PEERS, Contestant, python
from benchmarks.serving.load import Measured
from ci_tools.errors import DependencyUnavailable, TrainingFailed
from tests.release.server import bundles
from tests.release.server.proxy import command as envoy_command
from tests.release.server.running import free_port

CONNECTIONS = 32
SEED = 1
TIMES_KSERVE, OF_CEILING = 5.0, 0.7
"""What ours must reach: multiples of KServe's throughput, and the share of the ceiling's, which runs the same model."""


class Turn(NamedTuple):
    """What one turn of a contestant yields."""

    loaded: Measured
    """Under all connections at once."""
    single: Measured
    """One connection: the latency of a request that waits for no other."""
    mebibytes: float


def main(options: Namespace) -> Result:
    """Throughput and latency of every contestant that installs."""
    rounds, seconds = (options.rounds or 2, 2.0) if options.quick else (options.rounds or 7, 6.0)
    settings = {"rounds": rounds, "seconds": seconds, "connections": CONNECTIONS}
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("serving", options.command, settings, "requests per second") as result,
    ):
        place = Place(Path(scratch))
        able, left_out = _able()
        turns: dict[str, list[Turn]] = {one.name: [] for one in able}
        shuffled = random.Random(SEED)
        for _ in range(rounds):
            for one in shuffled.sample(able, len(able)):
                turns[one.name].append(place.turn(one, seconds))
        _tell(result, turns, left_out)
    return result


def _able() -> tuple[list[Contestant], dict[str, str]]:
    """Contestants that install, and why the others do not."""
    able, left_out = [], {}
    for one in CONTESTANTS:
        try:
            python(one)
        except DependencyUnavailable as error:
            left_out[one.name] = error.what
        else:
            able.append(one)
    return able, left_out


class Place:
    """The model, the request and the bundle, in a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Here, and not above: whoever only reads results needs no torch.
        import torch

        from benchmarks.reference import build, shipped_params
        from model.export import to_onnx

        network, _ = build(shipped_params(), torch.device("cpu"))
        graph = to_onnx(network.eval(), shipped_params().export.opset).SerializeToString(deterministic=True)
        self._model = folder / "model.onnx"
        self._model.write_bytes(graph)
        self._bundle = bundles.pack(folder / "bundles", graph, name="reference")
        random_row = np.random.default_rng(SEED)
        inputs = [
            ("numeric", "FP32", random_row.normal(size=25).round(3).tolist()),
            ("categorical", "INT64", random_row.integers(0, 4, 5).tolist()),
        ]
        tensors = [{"name": n, "datatype": kind, "shape": [1, len(data)], "data": data} for n, kind, data in inputs]
        self._body = json.dumps({"inputs": tensors}).encode()
        self._script = load.lua(folder, self._body)
        self._right: float | None = None

    def turn(self, one: Contestant, seconds: float) -> Turn:
        """Start, check, warm, load.

        Raises:
            TrainingFailed: it answers something else than the others, or fails requests.
        """
        with ExitStack() as stack:
            port = free_port()
            url = f"http://127.0.0.1:{port}{one.path}"
            process = stack.enter_context(load.running(self._command(one, port), self._folder, url, self._body))
            if one.proxied:
                front = free_port()
                url = f"http://127.0.0.1:{front}{one.path}"
                stack.enter_context(load.running(envoy_command(front, {"server": port}), self._folder, url, self._body))
            self._check(one, load.score(load.ask(url, self._body)))
            load.press(url, self._script, 1, CONNECTIONS)
            loaded = load.press(url, self._script, seconds, CONNECTIONS)
            single = load.press(url, self._script, max(seconds / 3, 1), 1)
            if loaded.failed or single.failed:
                raise TrainingFailed(f"{loaded.failed + single.failed} requests failed", where=one.name)
            return Turn(loaded, single, load.peak_mebibytes(process))

    def _command(self, one: Contestant, port: int) -> list[str]:
        if one.script:
            return [str(python(one)), str(PEERS / one.script), str(self._model), str(port)]
        flags = {
            "--bundle": self._bundle,
            "--member": "bench",
            "--port": port,
            "--trust-key": bundles.trust_key(self._bundle),
            "--predictions": self._folder / "predictions.jsonl",
        }
        return [
            sys.executable,
            "-m",
            "ci_tools.release.server",
            *(str(word) for pair in flags.items() for word in pair),
        ]

    def _check(self, one: Contestant, score: float) -> None:
        if one.name == EMPTY:
            return
        if self._right is None:
            self._right = score
        if abs(score - self._right) > 1e-6:
            raise TrainingFailed(f"answers {score}, others {self._right}", where=one.name)


def _tell(result: Result, turns: dict[str, list[Turn]], left_out: dict[str, str]) -> None:
    rates = {name: [turn.loaded.per_second for turn in taken] for name, taken in turns.items()}
    for name in turns:
        against = CEILING if name == OURS else OURS
        result.add([Arm(name, iter(()), against)], rates)
    for key, of in (
        ("p50 in ms", lambda turn: turn.loaded.p50_ms),
        ("p99 in ms", lambda turn: turn.loaded.p99_ms),
        ("p50 in ms, one connection", lambda turn: turn.single.p50_ms),
        ("p99 in ms, one connection", lambda turn: turn.single.p99_ms),
        ("peak memory in MiB", lambda turn: turn.mebibytes),
    ):
        result.facts[key] = {name: float(np.median([of(turn) for turn in taken])) for name, taken in turns.items()}
    result.facts["share of what HTTP alone takes"] = float(np.median(np.divide(rates[OURS], rates[EMPTY])))
    result.facts["left out"] = left_out
    result.facts["failed"] = judge(rates, result.facts["p99 in ms"])


def judge(rates: dict[str, list[float]], p99: dict[str, float]) -> list[str]:
    """What must hold and does not: medians over rounds of paired ratios."""

    def ratio(name: str) -> float:
        return float(np.median(np.asarray(rates[OURS]) / np.asarray(rates[name])))

    kept = {f"{OF_CEILING} of the ceiling": ratio(CEILING) >= OF_CEILING}
    if KSERVE in rates:
        kept[f"{TIMES_KSERVE} times KServe"] = ratio(KSERVE) >= TIMES_KSERVE
        kept["p99 no worse than KServe's"] = p99[OURS] <= p99[KSERVE]
    for name in rates:
        if name not in (CEILING, EMPTY, OURS) and "Envoy" not in name:
            kept[f"ahead of {name}"] = ratio(name) > 1
    return [rule for rule, holds in kept.items() if not holds]
