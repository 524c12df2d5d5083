"""How large the images are, layer by layer, and how long a build takes with and without its layers."""

import time
from argparse import Namespace

from benchmarks.containers import TARGETS, builder
from benchmarks.harness import Result, measuring, summary

MEGA = 1e6


def main(options: Namespace) -> Result:
    """Build each target on a base made here; sizes are the same wherever the pins are."""
    with builder() as build, measuring("images", options.command, {"targets": list(TARGETS)}, "s per build") as result:
        base = build.local_base()
        below = build.layers(base)
        sizes: dict[str, dict[str, float | list[float]]] = {}
        for target in TARGETS:
            begun = time.perf_counter()
            image = build.build(target, base, {"TORCH_INDEX": ""})
            result.arms[f"{target}, first"] = summary([time.perf_counter() - begun])
            begun = time.perf_counter()
            build.build(target, base, {"TORCH_INDEX": ""})
            result.arms[f"{target}, nothing changed"] = summary([time.perf_counter() - begun])
            layers = build.layers(image)
            sizes[target] = {
                "MB": round(sum(layers) / MEGA, 1),
                "MB above the base": round(sum(layers[len(below) :]) / MEGA, 1),
                "MB per layer above the base": [round(layer / MEGA, 2) for layer in layers[len(below) :]],
            }
        result.facts = {
            "base": f"{sum(below) / MEGA:.1f} MB, made here from Debian's packages",
            "torch": build.run(
                "localhost/switchback-train", ["python", "-c", "import torch; print(torch.__version__)"]
            ).strip(),
            **sizes,
        }
    return result
