"""How large the images are, layer by layer."""

from argparse import Namespace

from benchmarks.containers import TARGETS, builder
from benchmarks.harness import Result, measuring, summary

MEGA = 1e6


def main(options: Namespace) -> Result:
    """Build each target on a base made here. No seconds: they would measure the way to the package index."""
    with builder() as build, measuring("images", options.command, {"targets": list(TARGETS)}, "MB, unpacked") as result:
        base = build.local_base()
        below = build.layers(base)
        images = {target: build.build(target, base, {"TORCH_INDEX": ""}) for target in TARGETS}
        for target, image in images.items():
            above = build.layers(image)[len(below) :]
            result.arms[target] = summary([(sum(below) + sum(above)) / MEGA])
            result.facts[f"{target}: MB per layer above the base"] = [round(layer / MEGA, 1) for layer in above]
        torch = build.run(images["train"], ["python", "-c", "import torch; print(torch.__version__)"]).strip()
        result.facts |= {"base, made from Debian's packages": f"{sum(below) / MEGA:.1f} MB", "torch in train": torch}
    return result
