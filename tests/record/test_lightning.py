"""Runs of Lightning's Trainer are recorded."""

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning", reason="needs the package lightning: pip install 'switchback-ci[loops]'")

from ci_tools.errors import ConfigError
from ci_tools.record import open_record
from ci_tools.record.lightning import recording
from ci_tools.repro.compare import compare
from tests.record import blobs, frameworks

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
]


class TestLightning(frameworks.Recorded):
    loop = "lightning"
    train = staticmethod(blobs.lightning)


EPOCHS = {"max_steps": -1, "max_epochs": 3, "val_check_interval": None}


def test_epochs_that_are_validated_at_their_end_resume_with_the_same_bits(tmp_path):
    blobs.lightning(tmp_path / "whole", **EPOCHS)
    with pytest.raises(SystemExit):
        blobs.lightning(tmp_path / "run", **EPOCHS, stop_at=17)
    blobs.lightning(tmp_path / "run", **EPOCHS)
    assert open_record(tmp_path / "whole").evals["step"].to_pylist() == [10, 20, 30]
    assert compare(tmp_path / "whole", tmp_path / "run").identical


def test_loader_with_another_order_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="takes its batches from elsewhere"):
        blobs.lightning(tmp_path / "run", order="shuffled")


def test_accumulation_with_whole_batches_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="each in 2 parts"):
        blobs.lightning(tmp_path / "run", parts=2, order="whole")


def test_training_without_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="training has no end"):
        blobs.lightning(tmp_path / "run", max_steps=-1, max_epochs=-1)


def test_script_that_knows_the_older_name_gets_its_callback(monkeypatch):
    older = type("Callback", (), {})
    monkeypatch.delitem(sys.modules, "lightning", raising=False)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", SimpleNamespace(Callback=older))
    assert isinstance(recording(None, None), older)


def test_run_that_stops_early_is_finished(tmp_path):
    blobs.lightning(tmp_path / "run", leave_at=12)
    record = open_record(tmp_path / "run")
    assert (record.meta.status, record.trace.num_rows) == ("finished", 12)
