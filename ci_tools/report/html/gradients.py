"""Gradients layer by layer: a heat map over all steps, histograms and update ratios at the probes, a table in numbers.

S = optimizer steps, L = layers, P = probes, B = buckets of steps, K = histogram bins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.record.schema import HISTOGRAM_BINS, HISTOGRAM_LOWEST_EXPONENT
from ci_tools.report.html import thin
from ci_tools.report.html.records import Seed, floats, ints
from ci_tools.report.html.thin import F64, Buckets

CELLS = 180_000
"""Most cells of all seeds' heat maps together; a cell takes a byte and a third."""
HISTOGRAM_CELLS = 800_000
RATIOS = 40_000
"""Most numbers of all seeds' update ratios together."""
COLUMNS = 400
"""Most columns of one heat map."""
PROBES = 60
"""Most columns of one layer's histograms."""
ROWS = 240
"""Most rows of a heat map; where there are more layers, several share one."""
_TABLE = 400


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of the release in numbers; NaN where nothing was measured."""

    name: str
    weights: int
    first: float
    """Median RMS gradient of the first tenth of the run."""
    last: float
    """The same of the last tenth."""
    largest: float
    at_step: int
    update_ratio: float
    """Median over the probes."""
    dead_share: float
    """At the last probe."""


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What the page shows of the gradients; `data` is for its script."""

    data: dict[str, Any] | None
    """None where no seed has a trace with layers."""
    table: tuple[LayerRow, ...]
    table_of: str
    captions: dict[str, str]
    """By part: `map`, `histograms`, `ratios`; a part without one is not there."""


def read(seeds: Sequence[Seed]) -> Gradients:
    """The gradients of every seed that has the layers of the first that has any."""
    drawn = [at for at, seed in enumerate(seeds) if seed.trace.num_rows and seed.layers]
    drawn = [at for at in drawn if seeds[at].layers == seeds[drawn[0]].layers]
    if not drawn:
        return Gradients(data=None, table=(), table_of="", captions={})
    release = seeds[drawn[0]]
    probed = [at for at in drawn if seeds[at].probes.num_rows]
    map_data, captions = _map(seeds, drawn)
    data: dict[str, Any] = {"layers": list(release.layers), "map": map_data, "histograms": None, "ratios": None}
    if probed:
        data["histograms"], captions["histograms"] = _histograms(seeds, probed)
        data["ratios"], captions["ratios"] = _ratios(seeds, probed)
    return Gradients(data=data, table=_table(release), table_of=release.name, captions=captions)


def _map(seeds: Sequence[Seed], drawn: Sequence[int]) -> tuple[dict[str, Any], dict[str, str]]:
    layers = len(seeds[drawn[0]].layers)
    together = -(-layers // ROWS)
    rows = -(-layers // together)
    columns = max(min(COLUMNS, CELLS // (rows * len(drawn))), 20)
    into = thin.buckets(max(seeds[at].steps for at in drawn), columns)
    found = {at: _largest(seeds[at], into, together) for at in drawn}
    on = thin.scale(*found.values())
    caption = "Colour: RMS gradient of a layer, before clipping, on a logarithmic scale."
    if into.width > 1:
        caption += f" A cell is the largest of {into.width} steps, so that a spike stays visible."
    if together > 1:
        caption += f" A row is the largest of {together} neighbouring layers."
    data = {
        **_on(into),
        "together": together,
        "low": on.low,
        "high": on.high,
        "seeds": {at: thin.text(thin.coded(value_BR, on).T) for at, value_BR in found.items()},
    }
    return data, {"map": caption}


def _largest(seed: Seed, into: Buckets, together: int) -> F64:
    """[B, R] for rows of `together` layers each."""
    value_BL = thin.largest(ints(seed.trace, "step"), floats(seed.trace, "grad_rms"), into)
    start = np.arange(0, value_BL.shape[1], together)
    grouped: F64 = np.maximum.reduceat(value_BL, start, axis=1)
    return grouped


def _histograms(seeds: Sequence[Seed], probed: Sequence[int]) -> tuple[dict[str, Any], str]:
    """Share of each layer's weights in each bin of magnitude, on a square-root scale that keeps the tails visible."""
    layers = _chosen(seeds[probed[0]], HISTOGRAM_CELLS // (4 * HISTOGRAM_BINS * len(probed)))
    columns = max(min(PROBES, HISTOGRAM_CELLS // (len(layers) * HISTOGRAM_BINS * len(probed))), 2)
    into, merged = _probe_buckets(seeds, probed, columns)
    texts = {}
    for at in probed:
        count_PLK = floats(seeds[at].probes, "histogram")[:, layers].astype(np.float64)
        bucket, start = into.starts(ints(seeds[at].probes, "step"))
        sum_BLK = np.add.reduceat(count_PLK, start, axis=0)
        share_BLK = sum_BLK / np.maximum(sum_BLK.sum(axis=2, keepdims=True), 1)
        code_BLK = np.full((into.count, len(layers), HISTOGRAM_BINS), thin.NOTHING, dtype=np.uint8)
        code_BLK[bucket] = thin.ZERO + np.ceil(np.sqrt(share_BLK) * (thin.HIGHEST - thin.ZERO))
        texts[at] = thin.text(code_BLK.transpose(1, 2, 0))
    caption = "Colour: share of the layer's weights whose gradient has that magnitude. A column is "
    caption += f"the mean of {merged} probes." if merged > 1 else f"one probe, every {into.width} steps."
    caption += _left_out(seeds[probed[0]], layers)
    data = {
        **_on(into),
        "layers": layers,
        "bins": HISTOGRAM_BINS,
        "lowest": HISTOGRAM_LOWEST_EXPONENT,
        "seeds": texts,
    }
    return data, caption


def _ratios(seeds: Sequence[Seed], probed: Sequence[int]) -> tuple[dict[str, Any], str]:
    layers = _chosen(seeds[probed[0]], RATIOS // (20 * len(probed)))
    into, merged = _probe_buckets(seeds, probed, max(RATIOS // (len(layers) * len(probed)), 20))
    lines = {}
    for at in probed:
        bucket, start = into.starts(ints(seeds[at].probes, "step"))
        ratio_PL = floats(seeds[at].probes, "update_ratio")[:, layers]
        log_PL = np.log10(np.where(np.isfinite(ratio_PL) & (ratio_PL > 0), ratio_PL, np.nan))
        mean_BL = np.full((into.count, len(layers)), np.nan)
        size = np.diff(start, append=len(log_PL))[:, None]
        mean_BL[bucket] = np.add.reduceat(log_PL, start, axis=0) / size
        lines[at] = [thin.rounded(10**line) for line in mean_BL.T]
    used = sorted({int(b) for at in probed for b in into.starts(ints(seeds[at].probes, "step"))[0]})
    data = {
        "x": [int(into.first_b[b] + into.width - 1) for b in used],
        "layers": layers,
        "seeds": {at: [[line[b] for b in used] for line in found] for at, found in lines.items()},
    }
    caption = "One line per layer, from the first (dark) to the last (bright); around 10⁻³ is usual for Adam."
    if merged > 1:
        caption += f" A point is the geometric mean of {merged} probes."
    return data, caption + _left_out(seeds[probed[0]], layers)


def _probe_buckets(seeds: Sequence[Seed], probed: Sequence[int], at_most: int) -> tuple[Buckets, int]:
    """Buckets that hold equally many probes each, and how many."""
    every = max(seed.meta.probe_every for seed in seeds if seed.meta)
    steps = max(int(ints(seeds[at].probes, "step")[-1]) + 1 for at in probed)
    merged = -(-steps // (every * at_most))
    return Buckets(every * merged, -(-steps // (every * merged))), merged


def _chosen(seed: Seed, at_most: int) -> list[int]:
    """All layers; of too many, those with two axes or more, and of those evenly many."""
    shapes = [layer.shape for layer in seed.meta.layers] if seed.meta else []
    if len(shapes) <= at_most:
        return list(range(len(shapes)))
    matrices = [i for i, shape in enumerate(shapes) if len(shape) > 1] or list(range(len(shapes)))
    kept = np.linspace(0, len(matrices) - 1, min(at_most, len(matrices))).round().astype(int)
    return [matrices[i] for i in dict.fromkeys(kept.tolist())]


def _left_out(seed: Seed, layers: Sequence[int]) -> str:
    return f" {len(layers)} of {len(seed.layers)} layers are shown." if len(layers) < len(seed.layers) else ""


def _on(into: Buckets) -> dict[str, int]:
    return {"width": into.width, "count": into.count}


def _table(seed: Seed) -> tuple[LayerRow, ...]:
    shapes = [layer.shape for layer in seed.meta.layers] if seed.meta else []
    rms_SL: NDArray[np.float32] = floats(seed.trace, "grad_rms")
    tenth = max(len(rms_SL) // 10, 1)
    first_L, last_L = np.median(rms_SL[:tenth], axis=0), np.median(rms_SL[-tenth:], axis=0)
    row_L, step_S = np.argmax(np.where(np.isfinite(rms_SL), rms_SL, np.inf), axis=0), ints(seed.trace, "step")
    missing_L = np.full(len(shapes), np.nan)
    probes = seed.probes.num_rows
    ratio_L = np.median(floats(seed.probes, "update_ratio"), axis=0) if probes else missing_L
    dead_L = floats(seed.probes, "dead_share")[-1] if probes else missing_L
    return tuple(
        LayerRow(
            name=name,
            weights=math.prod(shapes[i]),
            first=float(first_L[i]),
            last=float(last_L[i]),
            largest=float(rms_SL[row_L[i], i]),
            at_step=int(step_S[row_L[i]]),
            update_ratio=float(ratio_L[i]),
            dead_share=float(dead_L[i]),
        )
        for i, name in enumerate(seed.layers[:_TABLE])
    )
