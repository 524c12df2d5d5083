"""A second reader of run records, written from docs/record.md alone: it shares no code with ci_tools."""

import hashlib
import json
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs/record.md").read_text()
MASK = 2**64 - 1
SAMPLES = 480  # of the toy run


def read_stream(path):
    """Rows of all whole blocks."""
    with pa.OSFile(str(path)) as file:
        stream = pa.ipc.open_stream(file)
        blocks = []
        while True:
            try:
                blocks.append(stream.read_next_batch())
            except (StopIteration, pa.ArrowInvalid, OSError):
                return pa.Table.from_batches(blocks, stream.schema)


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def digest(ids):
    return mix(sum(mix(i) * mix(2 * place + 1) for place, i in enumerate(ids)) & MASK)


def order(seed, epoch, samples):
    key = mix((mix(seed) + epoch) & MASK)
    return sorted(range(samples), key=lambda i: (mix(i ^ key), i))


def table_of(title):
    """First cells of the table under a heading of the document; a cell may name several columns."""
    section = re.search(rf"^#+ {re.escape(title)}$(.*?)^#", DOCUMENT, re.MULTILINE | re.DOTALL)[1]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.fixture(scope="module")
def meta(finished):
    return json.loads((finished / "run.json").read_text())


@pytest.fixture(scope="module")
def weights(meta):
    return [math.prod(layer["shape"]) for layer in meta["layers"]]


@pytest.mark.parametrize("name", ["trace.arrows", "probes.arrows", "evals.arrows", "losses.arrows", "shadows.arrows"])
def test_document_lists_the_columns_in_order(finished, name):
    assert table_of(name) == read_stream(finished / name).column_names


def test_document_lists_the_keys_of_run_json(meta):
    assert sorted(table_of("run.json")) == sorted(meta)


def test_document_lists_the_files(finished):
    listed = set(re.findall(r"`([\w.]+)(?:/[^`]*)?`", DOCUMENT.partition("\nBeside the")[0]))
    assert {path.name for path in finished.iterdir()} <= listed


def test_test_vectors_hold():
    assert f"{mix(0)}, {mix(1)}" in DOCUMENT
    assert f"| digest(0, 1, 2, 3) | {digest(range(4))} |" in DOCUMENT
    assert f"| digest(3, 2, 1, 0) | {digest([3, 2, 1, 0])} |" in DOCUMENT
    assert " and ".join(" ".join(map(str, order(3, epoch, 8))) for epoch in (0, 1)) in DOCUMENT


def test_batch_digests_follow_from_the_seed(finished, meta):
    size, per_epoch = meta["batch_size"], meta["steps_per_epoch"]
    assert per_epoch == SAMPLES // size
    for row in read_stream(finished / "trace.arrows").to_pylist():
        epoch, cursor = divmod(row["step"], per_epoch)
        ids = order(meta["seed"], epoch, SAMPLES)[cursor * size : (cursor + 1) * size]
        assert (row["epoch"], row["batch_digest"]) == (epoch, digest(ids))
        assert row["samples_seen"] == (row["step"] + 1) * size


def test_total_norm_follows_from_the_layers(finished, weights):
    for row in read_stream(finished / "trace.arrows").to_pylist():
        total = math.sqrt(sum(rms**2 * n for rms, n in zip(row["grad_rms"], weights, strict=True)))
        assert row["grad_norm"] == pytest.approx(total, rel=1e-6)


def test_histograms_count_every_weight_and_agree_with_the_trace(finished, weights):
    trace = {row["step"]: row for row in read_stream(finished / "trace.arrows").to_pylist()}
    for probe in read_stream(finished / "probes.arrows").to_pylist():
        assert [sum(bins) for bins in probe["histogram"]] == weights
        for bins, largest in zip(probe["histogram"], trace[probe["step"]]["grad_absmax"], strict=True):
            top = max(k for k, count in enumerate(bins) if count)
            assert (2.0 ** (top - 28) if top else 0) <= largest < 2.0 ** (top - 27)


def test_noise_scale_follows_from_its_parts(finished):
    for probe in read_stream(finished / "probes.arrows").to_pylist():
        square = probe["gradient_square"]
        assert probe["noise_scale"] == (probe["gradient_variance"] / square if square > 0 else math.inf)


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_torn_tail_costs_its_block_only(finished, tmp_path, cut):
    whole = read_stream(finished / "trace.arrows")
    torn = tmp_path / "trace.arrows"
    torn.write_bytes((finished / "trace.arrows").read_bytes()[: -8 - cut])
    rows = read_stream(torn)
    assert 0 < rows.num_rows < whole.num_rows
    assert rows == whole.slice(0, rows.num_rows)


def test_digests_of_params_and_code_are_those_of_their_json(meta):
    for key in ("params", "code"):
        text = json.dumps(meta[key], sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == meta[f"{key}_digest"]


def test_manifest_agrees_with_files_and_tensors(finished):
    folders = sorted((finished / "checkpoints").glob("step-*"))
    assert folders
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["trace_rows"] == int(folder.name.removeprefix("step-"))  # this run had no recovery
        for name, expected in manifest["files"].items():
            data = (folder / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == expected
            if name.endswith(".safetensors"):
                start = 8 + int.from_bytes(data[:8], "little")
                tensors = {k: v["data_offsets"] for k, v in json.loads(data[8:start]).items() if k != "__metadata__"}
                found = {k: hashlib.sha256(data[start + a : start + b]).hexdigest() for k, (a, b) in tensors.items()}
                assert found == manifest["tensors"][name]


def test_run_json_vouches_for_the_evidence_and_for_every_manifest(finished, meta):
    listed = {path for path in finished.rglob("*") if path.suffix in (".arrows", ".parquet")}
    listed |= {finished / "metrics.json", *finished.glob("checkpoints/step-*/manifest.json")}
    found = {str(path.relative_to(finished)): hashlib.sha256(path.read_bytes()).hexdigest() for path in listed}
    assert meta["files"] == found


def test_state_is_made_of_the_documented_nodes(finished):
    folder = max((finished / "checkpoints").glob("step-*"))
    tensors = json.loads((folder / "manifest.json").read_text())["tensors"]["state.safetensors"]
    used = set()

    def read(node):
        if isinstance(node, list):
            return [read(item) for item in node]
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "$tensor":
            used.add(content)
            return content
        return tuple(map(read, content)) if kind == "$tuple" else {key: read(item) for key, item in content}

    tree = read(json.loads((folder / "state.json").read_text()))
    root = re.search(r"At its root is a mapping: (.*?) What stands", DOCUMENT, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", root)) <= set(tree)
    assert used == set(tensors)
    assert tree["tape"]["rows"]["trace.arrows"] == tree["step"]


def test_released_weights_exist(finished, meta):
    step = meta["best_step"] if meta["best_metric"] else meta["steps"]
    assert (finished / f"checkpoints/step-{step:08d}/model.safetensors").is_file()
