"""Real handwritten digits, 8 by 8 pixels, from scikit-learn's own files: split once, whatever the seed of training.

`python data.py` writes data/train.npz, validation.npz and test.npz. Source: E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

FOLDER = Path("data")
ENDS = {"train": 0.7, "validation": 0.8, "test": 1.0}
"""Share of all rows at which each split ends."""


class Digits(NamedTuple):
    """Images and what they show."""

    numeric: torch.Tensor
    """float32 [N, 64], 0 (paper) to 16 (ink), row by row."""
    label: torch.Tensor
    """int64 [N], 0 to 9."""


def read(split: str) -> Digits:
    """One split as tensors."""
    with np.load(FOLDER / f"{split}.npz") as file:
        return Digits(torch.from_numpy(file["numeric"]), torch.from_numpy(file["label"]))


def write() -> None:
    """Deal the rows out at random, but always in the same way."""
    from sklearn.datasets import load_digits  # seconds that only this stage needs

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    FOLDER.mkdir(exist_ok=True)
    start = 0
    for split, share in ENDS.items():
        end = round(share * len(labels))
        rows = order[start:end]
        columns = {"numeric": pixels[rows].astype(np.float32), "label": labels[rows].astype(np.int64), "id": rows}
        np.savez(FOLDER / f"{split}.npz", **columns)
        start = end


if __name__ == "__main__":
    write()
