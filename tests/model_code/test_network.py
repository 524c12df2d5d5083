import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from model.network import Batch, Embeddings, Normalizer, RiskNetwork
from model.params import Network
from tests.model_code.prepared import rows

COLUMNS = [
    {"name": "plain", "mean": 5.0, "scale": 2.0, "transform": "identity"},
    {"name": "skewed", "mean": 3.0, "scale": 1.5, "transform": "log"},
]


def schema(numeric=2, categorical=2):
    return {
        "numeric": [dict(COLUMNS[i % 2], name=f"n{i}") for i in range(numeric)],
        "categorical": [{"name": f"c{i}", "categories": ["a", "b", "c"]} for i in range(categorical)],
    }


def network(numeric=2, categorical=2, **options):
    torch.manual_seed(0)
    return RiskNetwork(Network(**{"width": 8, "blocks": 2, "dropout": 0.0, **options}), schema(numeric, categorical))


def batch(count=64, numeric=2, categorical=2):
    made = rows(count, max(numeric, 1), max(categorical, 1), seed=1)
    return Batch(
        torch.from_numpy(made["numeric"][:, :numeric]),
        torch.from_numpy(made["categorical"][:, :categorical]),
        torch.from_numpy(made["label"]),
    )


# -- normaliser ---------------------------------------------------------------------------------------------------


WIDE = {"name": "wide", "mean": 3.0, "scale": 50.0, "transform": "log"}
"""Its scale leaves even the largest float inside the clipping range."""


def normalize_in_numpy(x, columns):
    """float64, straight from the docstring."""
    out = np.empty((len(x), 2 * len(columns)))
    for i, column in enumerate(columns):
        with np.errstate(invalid="ignore"):
            value = np.clip(x[:, i].astype(np.float64), -3.4e38, 3.4e38)
            value = np.sign(value) * np.log1p(np.abs(value)) if column["transform"] == "log" else value
            value = np.clip((value - column["mean"]) / column["scale"], -10, 10)
        out[:, i] = np.where(np.isnan(x[:, i]), 0.0, value)
        out[:, len(columns) + i] = np.isnan(x[:, i])
    return out


def test_normalizer_agrees_with_numpy():
    extremes = np.array([0.0, -0.0, 1e-30, 7.5, -7.5, 1e6, -1e6, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan])
    ordinary = np.random.default_rng(0).normal(0, 50, 200)
    column = np.concatenate([extremes, ordinary]).astype(np.float32)
    columns = [*COLUMNS, WIDE]
    x = np.stack([column, column[::-1], column], axis=1)
    found = Normalizer(columns)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, normalize_in_numpy(x, columns), rtol=1e-5, atol=1e-6)


def test_no_input_leaves_the_known_region():
    x = torch.tensor([[np.inf, -np.inf], [-np.inf, np.inf], [np.nan, np.nan], [3e38, -3e38]], dtype=torch.float32)
    out = Normalizer(COLUMNS)(x)
    assert out.isfinite().all()
    assert out.abs().max() <= Normalizer.limit


def test_missing_value_becomes_the_mean_and_a_flag():
    out = Normalizer(COLUMNS)(torch.full((1, 2), torch.nan))
    assert out.tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_normalization_is_saved_with_the_weights():
    state = network().state_dict()
    assert {"normalizer.mean_F", "normalizer.scale_F", "normalizer.log_F"} <= state.keys()


# -- embeddings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-1, -(2**62), 4, 5, 10**9, 2**62])
def test_codes_outside_their_column_read_its_row_for_unseen(code):
    embeddings = Embeddings([4, 4, 3], 5)
    known = torch.tensor([[1, 2, 2]])
    for column in range(3):
        strange, unseen = known.clone(), known.clone()
        strange[0, column], unseen[0, column] = code, 0
        assert torch.equal(embeddings(strange), embeddings(unseen))
        assert not torch.equal(embeddings(strange), embeddings(known))


def test_columns_share_no_row():
    embeddings = Embeddings([4, 3], 1)
    with torch.no_grad():
        embeddings.table.weight.copy_(torch.arange(7.0).unsqueeze(1))
    codes = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 0]])
    assert embeddings(codes).tolist() == [[0, 4], [1, 5], [2, 6], [3, 4]]


# -- network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("numeric", "categorical"), [(3, 2), (0, 2), (3, 0), (1, 1)])
def test_gradient_flows_to_every_parameter(numeric, categorical):
    model, x = network(numeric, categorical), batch(256, numeric, categorical)
    model.loss(x).backward()
    for name, w in model.named_parameters():
        if name == "embeddings.table.weight" and not categorical:
            continue  # a table for no column
        assert w.grad is not None, name
        assert w.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("numeric", "categorical"), [(3, 2), (0, 2), (3, 0)])
def test_one_logit_per_row_whatever_the_other_rows(numeric, categorical):
    model, x = network(numeric, categorical).eval(), batch(16, numeric, categorical)
    whole = model(x.numeric_BF, x.categorical_BC)
    assert whole.shape == (16,)
    alone = model(x.numeric_BF[3:4], x.categorical_BC[3:4])
    torch.testing.assert_close(alone, whole[3:4])


def test_dropout_acts_in_training_only():
    model, x = network(dropout=0.5), batch()
    first, second = (model(x.numeric_BF, x.categorical_BC) for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(x.numeric_BF, x.categorical_BC) for _ in range(2))
    assert torch.equal(first, second)


def test_loss_agrees_with_scikit_learn():
    model, x = network(), batch()
    score = model(x.numeric_BF, x.categorical_BC).double().sigmoid().detach().numpy()
    assert model.loss(x).item() == pytest.approx(log_loss(x.label_B.numpy(), score), rel=1e-6)


def test_positive_weight_multiplies_the_loss_of_positive_rows():
    model, x = network(), batch()
    score = model(x.numeric_BF, x.categorical_BC).double().sigmoid().detach().numpy()
    label = x.label_B.numpy()
    weights = np.where(label > 0, 7.0, 1.0)
    expected = log_loss(label, score, sample_weight=weights) * weights.sum() / len(label)
    assert model.loss(x, 7.0).item() == pytest.approx(expected, rel=1e-6)
