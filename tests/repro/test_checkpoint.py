import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ci_tools import files
from ci_tools.errors import CheckpointError, RecordError
from ci_tools.record import open_record
from ci_tools.repro import checkpoint, manifest
from ci_tools.repro.checkpoint import CheckpointWriter, load, newest_good, prune, tensor_digest
from model.optim import build_optimizer
from model.params import Train

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5])}


def save(root, step, weights=WEIGHTS, keep=10, best=0, before: Callable[[], None] = lambda: None, **state):
    writer = CheckpointWriter(root, keep)
    writer.write(step, weights, {"best_step": best, **state}, trace_rows=step, before=before)
    writer.wait()
    return root / manifest.checkpoint_name(step)


def steps(root):
    return [manifest.checkpoint_step(folder) for folder in manifest.list_checkpoints(root)]


# -- round trips --------------------------------------------------------------------------------------------------

TENSORS = {
    "float32": torch.tensor([1.0, -0.0, torch.inf, torch.nan]),
    "float64": torch.tensor([1e300], dtype=torch.float64),
    "float16": torch.tensor([[1.0, 6e-8]], dtype=torch.float16),
    "bfloat16": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
    "bool": torch.tensor([True, False]),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "int64": torch.tensor([-(2**62), 2**62]),
    "no dimension": torch.tensor(2.5),
    "no dimension, bool": torch.tensor(True),
    "no dimension, bfloat16": torch.tensor(2.5, dtype=torch.bfloat16),
    "empty": torch.empty(0, 3),
    "not contiguous": torch.arange(6.0).reshape(2, 3).T,
    "a view": torch.arange(6.0)[2:4],
    "needs a gradient": torch.ones(2, requires_grad=True),
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_kind_of_tensor_round_trips(tmp_path, name):
    tensor = TENSORS[name]
    folder = save(tmp_path, 1, {"t": tensor}, nested=[{"t": tensor}])
    weights, state = load(folder)
    for again in (weights["t"], state["nested"][0]["t"]):
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert tensor_digest(again) == tensor_digest(tensor), "bit by bit"
    assert manifest.read_manifest(folder)["tensors"]["model.safetensors"] == {"t": tensor_digest(tensor)}


def test_tied_weights_round_trip(tmp_path):
    tied = torch.arange(4.0)
    weights, _ = load(save(tmp_path, 1, {"embedding": tied, "head": tied}))
    assert torch.equal(weights["embedding"], tied)
    assert torch.equal(weights["head"], tied)


def test_plain_state_round_trips(tmp_path):
    state = {"list": [1, 2.5, None, True], "tuple": (3, "x"), 7: {"deep": float("inf")}, "none": None}
    _, again = load(save(tmp_path, 1, whole=state))
    assert again["whole"] == state


def test_state_is_that_of_the_call_not_of_the_write(tmp_path):
    moving = torch.zeros(3)

    def train_on():
        moving.add_(1)

    weights, state = load(save(tmp_path, 1, {"w": moving}, before=train_on, momentum=moving))
    assert moving.tolist() == [1, 1, 1]
    assert weights["w"].tolist() == state["momentum"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
def test_optimizer_goes_on_as_if_nothing_had_happened(tmp_path, name):
    def build():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        return model, build_optimizer(model, Train(optimizer=name, lr=0.05))

    def advance(model, optimizer, first, last):
        for step in range(first, last):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    model, optimizer = build()
    advance(model, optimizer, 0, 3)
    weights, state = load(save(tmp_path, 3, model.state_dict(), optimizer=optimizer.state_dict()))
    advance(model, optimizer, 3, 6)
    again, its_optimizer = build()
    again.load_state_dict(weights)
    its_optimizer.load_state_dict(state["optimizer"])
    advance(again, its_optimizer, 3, 6)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_pickled(finished):
    for folder in open_record(finished).checkpoints:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert set(files) == {"model.safetensors", "state.safetensors", "state.json", "manifest.json"}
        for name, data in files.items():
            if name.endswith(".json"):
                json.loads(data)
            else:
                header = int.from_bytes(data[:8], "little")
                assert json.loads(data[8 : 8 + header])


# -- the disk refuses ---------------------------------------------------------------------------------------------

CALLS = [
    (checkpoint, "save_file"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "rename"),
    (manifest, "file_digest"),
    (files, "sync"),
    (manifest, "tensor_digests"),
]


def fail_at(monkeypatch, n):
    """Make the n-th call that touches the disk fail; returns the calls that were made."""
    made = []

    def breaking(name, real):
        def call(*arguments, **keywords):
            made.append(name)
            if len(made) == n:
                raise OSError(28, "No space left on device")
            return real(*arguments, **keywords)

        return call

    for owner, name in CALLS:
        monkeypatch.setattr(owner, name, breaking(name, getattr(owner, name)))
    return made


def calls_of_one_write(tmp_path):
    save(tmp_path, 1)
    with pytest.MonkeyPatch.context() as patch:
        made = fail_at(patch, -1)
        save(tmp_path, 2)
        return list(made)


def test_failure_at_any_call_leaves_whole_checkpoints_only(tmp_path):
    made = calls_of_one_write(tmp_path / "counted")
    assert {name for _, name in CALLS} == set(made), "every kind of call is made, so every kind fails below"
    for n in range(1, len(made) + 1):
        root = tmp_path / str(n)
        save(root, 1)
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, n)
            with pytest.raises(RecordError, match=r"No space left on device.*run again to resume"):
                save(root, 2, {"w": torch.ones(1)})
        assert 1 in steps(root), made[n - 1]
        assert not list(root.glob(".*")), f"{made[n - 1]} left something behind"
        for folder in manifest.list_checkpoints(root):
            load(folder)
        assert newest_good(root, pytest.fail) == manifest.list_checkpoints(root)[-1]
        assert load(save(root, 2))[0].keys() == WEIGHTS.keys(), "the next try succeeds"


def test_failure_of_what_the_checkpoint_relies_on_writes_nothing(tmp_path):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordError, match="No space left"):
        save(tmp_path, 1, before=full)
    assert steps(tmp_path) == []


def test_error_is_reported_once(tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, 3)
    monkeypatch.setattr(checkpoint, "save_file", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    writer.write(1, WEIGHTS, {"best_step": 0}, 1, lambda: None)
    with pytest.raises(RecordError, match="I/O error"):
        writer.wait()
    writer.wait()
    monkeypatch.undo()
    writer.write(2, WEIGHTS, {"best_step": 0}, 2, lambda: None)
    writer.wait()
    assert steps(tmp_path) == [2]


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors"])
def test_file_that_reads_back_differently_is_no_checkpoint(tmp_path, monkeypatch, file):
    real = checkpoint.save_file

    def one_bit_off(tensors, path):
        real(tensors, path)
        if path.name == file:
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

    monkeypatch.setattr(checkpoint, "save_file", one_bit_off)
    with pytest.raises(RecordError, match=rf"{file} read back differs from memory"):
        save(tmp_path, 1, momentum=torch.ones(2))
    assert steps(tmp_path) == []


def test_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save(tmp_path, 1)
    weights, _ = load(save(tmp_path, 1, {"w": torch.tensor([9.0])}))
    assert weights["w"].tolist() == [9]
    assert steps(tmp_path) == [1]


# -- which are kept -----------------------------------------------------------------------------------------------


def test_newest_are_kept(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [30, 40]


def test_start_is_kept_while_no_metric_has_chosen_a_best(tmp_path):
    for step in (0, 10, 20, 30):
        save(tmp_path, step, keep=2, best=0)
    assert steps(tmp_path) == [0, 20, 30]


def test_best_is_kept_however_old(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step, keep=2, best=10)
    assert steps(tmp_path) == [10, 30, 40]


def test_best_that_a_kept_checkpoint_refers_to_outlives_a_better_one(tmp_path):
    for step, best in ((10, 10), (20, 10), (30, 10), (40, 40)):
        save(tmp_path, step, keep=2, best=best)
    assert steps(tmp_path) == [10, 30, 40], "a return to 30 still finds its best"
    save(tmp_path, 50, keep=2, best=40)
    assert steps(tmp_path) == [40, 50]


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    assert steps(tmp_path) == [99_999_999, 100_000_000]
    prune(tmp_path, 1)
    assert steps(tmp_path) == [100_000_000]


def test_delete_that_dies_midway_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    folder = save(tmp_path, 1)
    real = shutil.rmtree

    def die_midway(path, *arguments, **keywords):
        if Path(path).exists() and not keywords.get("ignore_errors"):
            (Path(path) / "state.json").unlink()
            raise KeyboardInterrupt
        real(path, *arguments, **keywords)

    monkeypatch.setattr(checkpoint.shutil, "rmtree", die_midway)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.discard(folder)
    assert steps(tmp_path) == []


# -- damage -------------------------------------------------------------------------------------------------------


def test_changed_tensor_is_named(tmp_path):
    folder = save(tmp_path, 1)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # tensors lie in the file by name: b, then w
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tensor w in model\.safetensors does not match its manifest"):
        load(folder)


def test_every_flipped_byte_of_every_file_is_noticed(tmp_path):
    folder = save(tmp_path, 1, momentum=torch.ones(2))
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 20)):
            data = bytearray(whole)
            data[at] ^= 1
            path.write_bytes(data)
            if path.name == "manifest.json":
                continue  # it holds white space and facts too; what it vouches for is tested by the other files
            with pytest.raises(CheckpointError, match=r"does not match its manifest"):
                manifest.verify(folder)
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"files": [], "tensors": {}}', '{"files": {}}', "\udcff"])
def test_unreadable_manifest_is_one_clear_error(tmp_path, text):
    folder = save(tmp_path, 1)
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="manifest is missing or unreadable"):
        load(folder)


def test_damaged_checkpoints_are_set_aside_one_by_one(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (2, 3):
        (tmp_path / manifest.checkpoint_name(step) / "state.json").unlink()
    warnings = []
    assert newest_good(tmp_path, warnings.append) == tmp_path / manifest.checkpoint_name(1)
    assert ["step-00000003" in warnings[0], "step-00000002" in warnings[1], len(warnings)] == [True, True, 2]
    assert steps(tmp_path) == [1]
    assert len(list(tmp_path.glob("damaged-*"))) == 2, "the evidence stays"


def test_no_checkpoint_is_none(tmp_path):
    assert newest_good(tmp_path, pytest.fail) is None
    assert newest_good(tmp_path / "nowhere", pytest.fail) is None


def test_file_that_is_no_safetensors_is_one_clear_error(tmp_path):
    (tmp_path / "x").write_bytes(b"nonsense")
    for path in (tmp_path / "x", tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            manifest.read_tensors(path)
