import math

import pytest
import torch

from ci_tools.errors import CheckpointError
from ci_tools.repro.state import join, split


def test_join_inverts_split():
    value = {
        "a": [1, 2.5, None, True, "x"],
        3: (torch.arange(4), {"deep": (torch.tensor(1.5), ())}),
        "infinite": math.inf,
        "$tensor": "a key that looks like ours",
    }
    again = join(*split(value))
    assert again["a"] == value["a"]
    assert torch.equal(again[3][0], value[3][0])
    assert again[3][1]["deep"][1] == ()
    assert again["infinite"] == math.inf
    assert again["$tensor"] == value["$tensor"]
    assert list(again) == list(value)


@pytest.mark.parametrize("bad", [{"x": object()}, {"x": {1, 2}}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused_by_path(bad):
    with pytest.raises(CheckpointError, match=r"checkpoints hold|str or int"):
        split(bad)


def test_missing_tensor_is_named():
    tree, tensors = split({"weights": torch.zeros(1)})
    tensors.clear()
    with pytest.raises(CheckpointError, match="/weights is missing"):
        join(tree, tensors)
