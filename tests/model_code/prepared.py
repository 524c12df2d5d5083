"""Small stand-ins for what the data and training stages leave behind."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
from ci_tools.repro.manifest import checkpoint_name
from model.params import Params

SMALL = {"network": {"width": 8, "blocks": 1, "embedding": 3}}


def rows(count, numeric, categorical, seed):
    rng = np.random.default_rng(seed)
    values = (100 * rng.standard_normal((count, numeric))).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    codes = rng.integers(0, 4, (count, categorical))
    logit = -1 + np.nan_to_num(values[:, :1]).sum(1) / 100 + (codes[:, :1] == 1).sum(1)
    label = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return {"numeric": values, "categorical": codes, "label": label, "id": np.arange(count) + 1000 * seed}


def write_data(folder, numeric=3, categorical=2, count=400):
    """A data folder with log and identity columns, missing values, codes 0 to 3, and two slice columns at most."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(["train", "validation", "test"], start=1):
        np.savez(folder / f"{name}.npz", **rows(count, numeric, categorical, seed))
    schema = {
        "schema_version": 1,
        "label": {"name": "fraud", "positive": "yes", "negative": "no"},
        "numeric": [
            {"name": f"n{i}", "transform": ["identity", "log"][i % 2], "mean": 0.5 * i, "scale": [90.0, 2.0][i % 2]}
            | ({"unit": "€"} if i == 0 else {})
            for i in range(numeric)
        ],
        "categorical": [{"name": f"c{i}", "categories": ["a", "b", "c"]} for i in range(categorical)],
        "slices": [f"c{i}" for i in range(categorical)],
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    return schema


def write_record(folder, data, seed=1, status="finished", params=SMALL, network=None, score=None):
    """A finished record: scores of the test split, and the weights of `network` where there is one."""
    meta = RunMeta(
        schema_version=SCHEMA_VERSION,
        id=f"run-{seed}",
        status=status,
        command=["train"],
        workdir=".",
        seed=seed,
        params=Params.model_validate(params).model_dump(mode="json", include={"network", "train"}),
        params_digest="d1",
        git_commit="c0ffee",
        git_dirty=False,
        code={},
        code_digest="",
        data={},
        fingerprint={},
        steps=5,
        probe_every=1,
        checkpoint_every=5,
        started="2024-01-01T00:00:00+00:00",
    )
    checkpoint = folder / "checkpoints" / checkpoint_name(5)
    checkpoint.mkdir(parents=True)
    (folder / "run.json").write_text(meta.text())
    if network is not None:
        from safetensors.torch import save_file

        save_file(network.state_dict(), checkpoint / "model.safetensors")
    with np.load(data / "test.npz") as test:
        label, ids, codes = test["label"], test["id"], test["categorical"]
    if score is None:
        noise = np.random.default_rng(seed).standard_normal(len(label))
        score = 1 / (1 + np.exp(-(2 * label - 1 + noise)))
    slices = {f"c{i}": np.array(["(missing)", "a", "b", "c"])[codes[:, i]] for i in range(codes.shape[1])}
    pq.write_table(
        pa.table({"id": ids, "label": label, "score": score.astype(np.float32), **slices}), folder / "scores.parquet"
    )
