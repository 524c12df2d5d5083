"""Runs of Hugging Face's Trainer are recorded."""

from types import SimpleNamespace

import pytest

pytest.importorskip("transformers", reason="needs the package transformers: pip install 'switchback-ci[loops]'")
pytest.importorskip("accelerate", reason="needs the package accelerate: pip install 'switchback-ci[loops]'")

import transformers
from torch.utils.data import DataLoader

from ci_tools.errors import ConfigError
from ci_tools.record import open_record
from ci_tools.record.transformers import record
from ci_tools.repro.compare import compare
from tests.record import blobs, frameworks

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class TestTransformers(frameworks.Recorded):
    loop = "transformers"
    train = staticmethod(blobs.transformers)


def test_epochs_that_are_evaluated_at_their_end_resume_with_the_same_bits(tmp_path):
    blobs.transformers(tmp_path / "whole", eval_strategy="epoch")
    with pytest.raises(SystemExit):
        blobs.transformers(tmp_path / "run", eval_strategy="epoch", stop_at=17)
    blobs.transformers(tmp_path / "run", eval_strategy="epoch")
    assert sorted(set(open_record(tmp_path / "whole").evals["step"].to_pylist())) == [10, 20, 30, 35]
    assert compare(tmp_path / "whole", tmp_path / "run").identical


def test_times_are_no_metrics(tmp_path):
    blobs.transformers(tmp_path / "run")
    assert set(open_record(tmp_path / "run").evals["metric"].to_pylist()) == {"loss", "accuracy"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fp16": True}, "fp16 cannot be recorded"),
        ({"n_gpu": 2}, "several devices train"),
        ({}, "the training data has no length"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, given, said):
    args = SimpleNamespace(**{"world_size": 1, "n_gpu": 1, "fp16": False} | given)
    with pytest.raises(ConfigError, match=said):
        record(SimpleNamespace(args=args, train_dataset=None), blobs.recorder(tmp_path / "run"))


def test_loader_with_another_order_is_refused(tmp_path):
    rows = blobs.Rows(blobs.SAMPLES, 1)

    class Own(transformers.Trainer):
        def get_train_dataloader(self):
            return DataLoader(rows, blobs.BATCH, shuffle=True)

    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=blobs.BATCH, max_steps=1, report_to="none"
    )

    def train():
        with blobs.recorder(tmp_path / "run") as run:
            trainer = Own(model=blobs.Net(), args=args, train_dataset=rows)
            record(trainer, run)
            trainer.train()

    with pytest.raises(ConfigError, match="its batches from elsewhere"):
        train()
