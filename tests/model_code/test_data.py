import json
from dataclasses import replace

import numpy as np
import pytest
from ruamel.yaml import YAML

from ci_tools.config import validate
from ci_tools.errors import DataError
from model.columns import categorical_histogram, encode, fit_numeric, numeric_edges, numeric_histogram
from model.data import load_schema, load_source, load_split, main, prepare
from model.frame import Codes, Frame
from model.params import Data
from model.params import Split as SplitParams
from model.split import NAMES, assign, row_hash

SIMULATED = {"simulated": {"transactions": 6000, "customers": 200, "terminals": 80, "fraud_rate": 0.05}}


def data(**sections):
    return validate(sections, Data, where="test")


def frame(n=1000, time=True, seed=0, **columns):
    rng = np.random.default_rng(seed)
    return Frame(
        source="test",
        numeric={"x": rng.normal(size=n).astype(np.float32), **columns},
        categorical={"c": Codes(("a", "b", "c"), rng.integers(-1, 3, n).astype(np.int32))},
        label=rng.random(n) < 0.3,
        time=rng.permutation(n) * 86_400.0 / 10 if time else None,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    prepare(data(**SIMULATED), out)
    return out


@pytest.fixture
def write_csv(tmp_path):
    def write(rows, header="when,amount,kind,label"):
        path = tmp_path / "rows.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return {"source": "table", "table": {"path": str(path), "time": "when", "numeric": ["amount"]}}

    return write


def dated_rows(late_amount=1.0, late_kind="shop"):
    """100 days; the last 20, which become the test split, may differ."""
    late = {True: (late_amount, late_kind), False: (1.0, "shop")}
    return [
        f"{np.datetime64('2024-01-01') + day},{late[day >= 80][0] * (day % 7)},{late[day >= 80][1]},{day % 3 == 0}"
        for day in range(100)
    ]


def test_equal_params_give_equal_bytes(folder, tmp_path):
    prepare(data(**SIMULATED), tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["profile.json", "schema.json", "test.npz", "train.npz", "validation.npz"]
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_splits_agree_with_the_schema(folder):
    schema = load_schema(folder)
    ids = []
    for name in NAMES:
        split = load_split(folder, name)
        assert split.numeric.dtype == np.float32
        assert split.categorical.dtype == split.id.dtype == np.int64
        assert split.label.dtype == np.float32
        assert split.numeric.shape == (schema["split"]["rows"][name], len(schema["numeric"]))
        assert split.label.sum() == schema["split"]["positives"][name]
        sizes = [len(column["categories"]) for column in schema["categorical"]]
        assert (split.categorical.min(0) >= 0).all()
        assert (split.categorical.max(0) <= sizes).all()
        ids.extend(split.id)
    assert len(set(ids)) == len(ids) == schema["rows"] - schema["split"]["gap_dropped_rows"]
    assert schema["slices"] == ["channel", "segment", "device"]


def test_rows_of_a_split_are_the_sources_rows(folder):
    source, split, schema = load_source(data(**SIMULATED)), load_split(folder, "test"), load_schema(folder)
    amount = [column["name"] for column in schema["numeric"]].index("amount")
    np.testing.assert_array_equal(split.numeric[:, amount], source.numeric["amount"][split.id])
    np.testing.assert_array_equal(split.label, source.label[split.id])
    np.testing.assert_array_equal(split.time, source.time[split.id])
    channel = [column["name"] for column in schema["categorical"]].index("channel")
    spelled = np.array([None, *schema["categorical"][channel]["categories"]])[split.categorical[:, channel]]
    codes = source.categorical["channel"]
    assert spelled.tolist() == [codes.values[code] for code in codes.codes[split.id]]


@pytest.mark.parametrize("gap_days", [0.0, 3.0])
def test_time_split_keeps_order_gap_and_shares(gap_days):
    rows = frame()
    parts, description = assign(rows, SplitParams(gap_days=gap_days))
    train, validation, test = (rows.time[parts[name]] for name in NAMES)
    gap = gap_days * 86_400
    assert validation.min() - train.max() > gap
    assert test.min() - validation.max() > gap
    assert (len(validation), len(test)) == (150, 200)
    # Ten rows a day, two gaps.
    assert description["gap_dropped_rows"] == 20 * gap_days
    assert all((np.diff(rows.time[parts[name]]) >= 0).all() for name in NAMES)


def test_rows_of_one_moment_stay_together():
    n = 1000
    rows = Frame(
        source="test", numeric={}, categorical={}, label=np.arange(n) % 3 == 0, time=(np.arange(n) // 70).astype(float)
    )
    parts, _ = assign(rows, SplitParams(gap_days=0.0))
    moments = [set(rows.time[parts[name]]) for name in NAMES]
    assert not moments[0] & moments[1]
    assert not moments[1] & moments[2]
    assert sum(map(len, parts.values())) == n


def test_hash_split_puts_duplicates_on_one_side_and_keeps_shares():
    rows, n = frame(4000, time=False), 4000
    twice = Frame(
        source="test",
        numeric={"x": np.tile(rows.numeric["x"], 2)},
        categorical={"c": Codes(rows.categorical["c"].values, np.tile(rows.categorical["c"].codes, 2))},
        label=np.concatenate([rows.label, ~rows.label]),
    )
    parts, description = assign(twice, SplitParams())
    side = np.empty(2 * n, int)
    for number, name in enumerate(NAMES):
        side[parts[name]] = number
    np.testing.assert_array_equal(side[:n], side[n:])
    assert np.bincount(side) / (2 * n) == pytest.approx([0.65, 0.15, 0.2], abs=0.02)
    assert description["method"] == "hash"
    assert description["gap_dropped_rows"] == 0


def test_row_hash_depends_on_content_only():
    rows = frame(50, time=False, y=np.linspace(-1, 1, 50, dtype=np.float32))
    order = np.random.default_rng(1).permutation(50)
    column = rows.categorical["c"]
    moved = Frame(
        source="elsewhere",
        numeric={name: values[order] for name, values in reversed(rows.numeric.items())},
        categorical={"c": Codes(column.values[::-1], np.where(column.codes < 0, -1, 2 - column.codes)[order])},
        label=~rows.label[order],
    )
    np.testing.assert_array_equal(row_hash(rows, "salt")[order], row_hash(moved, "salt"))
    assert len(np.unique(row_hash(rows, "salt"))) == 50
    for part in (replace(rows, numeric={}), replace(rows, categorical={})):
        assert (row_hash(part, "salt") != row_hash(part, "pepper")).all()


def test_row_hash_ignores_the_sign_of_zero_and_the_bits_of_nan():
    strange = np.array([0x7FC00001, 0x7FC00000], np.uint32).view(np.float32)
    hashes = [
        row_hash(Frame(source="", numeric={"x": x}, categorical={}, label=np.zeros(2, bool)), "")
        for x in (np.array([0.0, np.nan], np.float32), np.array([-0.0, strange[0]], np.float32))
    ]
    np.testing.assert_array_equal(*hashes)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ((np.arange(100) < 50) | (np.arange(100) == 70), "all 20 rows of the test split are negative"),
        (np.arange(100) >= 60, "rows of the train split are negative"),
        (np.arange(3) < 1, "the train split is empty"),
    ],
)
def test_split_without_rows_or_classes_is_refused(label, message):
    rows = Frame(source="test", numeric={}, categorical={}, label=label, time=np.arange(len(label)).astype(float))
    with pytest.raises(DataError, match=message):
        assign(rows, SplitParams(gap_days=1.0 if len(label) == 3 else 0.0, validation=0.2))


def test_statistics_and_vocabulary_come_from_train_only(write_csv, tmp_path):
    plain = prepare(data(**write_csv(dated_rows()), split={"gap_days": 2.0}), tmp_path / "plain")
    shifted = prepare(data(**write_csv(dated_rows(1000.0, "casino")), split={"gap_days": 2.0}), tmp_path / "shifted")
    assert plain["numeric"] == shifted["numeric"]
    assert plain["categorical"] == shifted["categorical"]
    assert shifted["categorical"][0]["categories"] == ["shop"]
    assert shifted["slices"] == []
    test = load_split(tmp_path / "shifted", "test")
    assert test.numeric.max() == 6000
    assert (test.categorical == 0).all()


@pytest.mark.parametrize(
    ("values", "transform", "mean", "scale"),
    [
        ([1.0, 2.0, 3.0], "identity", 2.0, np.std([1, 2, 3])),
        ([5.0, 5.0, np.nan], "identity", 5.0, 1.0),
        ([0.1, 0.1, 0.1], "identity", 0.1, 1.0),
        ([0.0] * 50 + [1e6], "log", np.log1p(1e6) / 51, np.std([0] * 50 + [np.log1p(1e6)])),
        ([0.0] * 50 + [-1e6], "log", -np.log1p(1e6) / 51, np.std([0] * 50 + [np.log1p(1e6)])),
    ],
)
def test_numeric_columns_are_standardised_after_their_transform(values, transform, mean, scale):
    rng = np.random.default_rng(0)
    if transform == "log":
        values = rng.lognormal(3, 2, 500) * np.sign(values[-1])
        shown = np.sign(values) * np.log1p(np.abs(values.astype(np.float32).astype(float)))
        mean, scale = shown.mean(), shown.std()
    entry = fit_numeric("x", np.array(values, np.float32), "test", "km")
    assert entry["transform"] == transform
    assert entry["mean"] == pytest.approx(mean)
    assert entry["scale"] == pytest.approx(scale)
    assert entry["unit"] == "km"
    assert entry["missing_share"] == pytest.approx(np.isnan(values).mean())


def test_normalizer_standardises_the_training_rows(folder):
    torch = pytest.importorskip("torch")
    from model.network import Normalizer

    numeric = load_split(folder, "train").numeric
    shown = Normalizer(load_schema(folder)["numeric"])(torch.from_numpy(numeric)).numpy()[:, : numeric.shape[1]]
    shown[np.isnan(numeric)] = np.nan
    assert np.nanmean(shown, 0) == pytest.approx(0, abs=0.02)
    assert np.nanstd(shown, 0) == pytest.approx(1, abs=0.05)


def test_categories_are_ordered_by_frequency_then_name_and_cut(tmp_path, write_csv):
    kinds = ["b"] * 5 + ["a"] * 5 + ["c"] * 5 + ["often"] * 9 + ["rare"] + [""] * 3
    rows = [f"{day},{day},{kinds[day % len(kinds)]},{day % 3 == 0}" for day in range(560)]
    sections = write_csv(rows)
    schema = prepare(data(**sections, split={"gap_days": 0.0}, max_categories=4), tmp_path / "out")
    assert schema["categorical"][0]["categories"] == ["often", "a", "b", "c"]
    assert schema["categorical"][0]["missing_share"] == pytest.approx(3 / 28, abs=0.02)
    assert schema["time"]["unit"] == "the column's own unit"
    profile = json.loads((tmp_path / "out" / "profile.json").read_text())["categorical"]["kind"]
    assert profile["categories"] == ["often", "a", "b", "c"]
    for name in NAMES:
        counts = profile[name]
        assert sum(counts["counts"]) + counts["other"] + counts["missing"] == schema["split"]["rows"][name]
        assert counts["other"] > 0
        assert counts["missing"] > 0


def test_encode_maps_missing_and_unseen_to_zero():
    column = Codes(("new", "b", "a"), np.array([2, 1, 0, -1], np.int32))
    assert encode(column, ["a", "b"]).tolist() == [1, 2, 0, 0]


def test_histograms_count_every_row(folder):
    profile, schema = json.loads((folder / "profile.json").read_text()), load_schema(folder)
    for column in schema["numeric"]:
        entry = profile["numeric"][column["name"]]
        assert entry["edges"] == sorted(set(entry["edges"]))
        for name, rows in schema["split"]["rows"].items():
            assert len(entry[name]["counts"]) == len(entry["edges"]) + 1
            assert sum(entry[name]["counts"]) + entry[name]["missing"] == rows
    # Bins are equally full in train where values do not repeat.
    counts = profile["numeric"]["account_age_days"]["train"]["counts"]
    assert len(counts) == 20
    assert max(counts) - min(counts) <= 2
    assert profile["label_rate"]["train"] == pytest.approx(load_split(folder, "train").label.mean())


def test_categories_beyond_the_top_fifty_count_as_other():
    codes = np.array([0, 0, 49, 50, 59, -1], np.int32)
    counted = categorical_histogram(codes, codes.astype(np.int64) + 1, categories=60)
    assert counted == {"counts": [2, *[0] * 48, 1], "other": 2, "missing": 1}


def test_histogram_edges_belong_to_the_bin_below():
    edges = numeric_edges(np.array([0.0] * 30 + [1.0] * 10, np.float32))
    assert edges.tolist() == [0.0, 1.0]
    counted = numeric_histogram(np.array([-1, 0, 0.5, 1, 2, np.nan], np.float32), edges)
    assert counted == {"counts": [2, 2, 1], "missing": 1}


def test_slices_may_be_chosen_and_must_be_categorical(tmp_path):
    assert prepare(data(**SIMULATED, slices=["region"]), tmp_path / "out")["slices"] == ["region"]
    with pytest.raises(DataError, match=r"'amount' is not a categorical column; data\.slices names it"):
        prepare(data(**SIMULATED, slices=["amount"]), tmp_path / "out")


def test_a_crash_while_writing_never_looks_whole(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare(data(**SIMULATED), out)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DataError, match="cannot be written \\(No space left on device\\)"):
        prepare(data(**SIMULATED), out)
    with pytest.raises(DataError, match="there is no prepared data"):
        load_split(out, "train")


def test_missing_or_damaged_folders_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"there is no prepared data.*run `python -m model\.data`"):
        load_schema(tmp_path)
    with pytest.raises(DataError, match="there is no holdout split; splits are train, validation, test"):
        load_split(folder, "holdout")
    (tmp_path / "schema.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_schema(tmp_path)
    (tmp_path / "schema.json").write_text('{"schema_version": 2}')
    with pytest.raises(DataError, match="schema version 2; this code reads version 1"):
        load_schema(tmp_path)
    (tmp_path / "schema.json").write_text('{"schema_version": 1}')
    whole = (folder / "test.npz").read_bytes()
    for damaged in (b"", whole[:100], whole[:-200]):
        (tmp_path / "test.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            load_split(tmp_path, "test")


def test_command_line_writes_and_summarises(tmp_path, capsys):
    params = tmp_path / "params.yaml"
    YAML().dump({"data": SIMULATED}, params)
    assert main(["--params", str(params), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 5
    assert "6,000 rows, 5.00% positive" in lines[0]
    assert load_schema(tmp_path / "out")["rows"] == 6000


def test_command_line_prints_one_error_line(tmp_path, capsys):
    params = tmp_path / "params.yaml"
    YAML().dump({"data": {"source": "table", "table": {"path": str(tmp_path / "gone.csv")}}}, params)
    assert main(["--params", str(params), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "gone.csv: no such file" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_column_named_like_one_of_the_scores_is_no_slice(tmp_path):
    rows = [f"{i},{'abc'[i % 3]},{'xy'[i % 2]},{i * 7 % 3 % 2}" for i in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["a,score,kind,y", *rows]))
    table = {"source": "table", "table": {"path": str(tmp_path / "t.csv"), "label": "y"}}
    assert prepare(data(**table), tmp_path / "out")["slices"] == ["kind"]
    with pytest.raises(DataError, match="'score' cannot be a slice"):
        prepare(data(**table, slices=["score"]), tmp_path / "out")
