"""Energy of a run. The GPUs and their driver are stood in for at NVML's own binding; this machine may have neither."""

import sys
from types import ModuleType

import pytest
import torch

from ci_tools.record import energy, open_record
from tests.record import toy
from tests.record.server import program


class NvmlError(Exception):
    pass


class Nvml(ModuleType):
    """NVML with counters in millijoules by UUID; each reading finds `rate` more than the one before."""

    def __init__(self, counters, rate=2500, broken=""):
        super().__init__("pynvml")
        self.counters, self.rate, self.broken = dict(counters), rate, broken
        self.open = self.readings = 0

    def _answer(self, function):
        if function == self.broken:
            raise NvmlError(function)

    def nvmlInit(self):
        self._answer("nvmlInit")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert self.open
        if uuid not in self.counters:
            raise NvmlError(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert self.open
        self._answer("nvmlDeviceGetTotalEnergyConsumption")
        self.readings += 1
        self.counters[handle] += self.rate
        return self.counters[handle]


@pytest.fixture
def plug_in(monkeypatch):
    """Put GPUs into the machine, and the toy's model on them."""

    def put(*uuids, **options):
        nvml = Nvml(dict.fromkeys(uuids, 7_000_000), **options)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.setattr(energy, "gpus", lambda parameters: list(uuids))
        return nvml

    return put


def joules(record):
    return open_record(record).meta.energy_joules


def stop_at(step):
    def on_step(now, run):
        if now == step:
            raise SystemExit(130)

    return on_step


def test_finished_run_holds_its_energy_in_joules_by_two_readings(plug_in, tmp_path):
    nvml = plug_in("GPU-a")
    assert joules(toy.train(tmp_path / "run", steps=30)) == 2.5
    assert nvml.readings == 2
    assert nvml.open == 0


def test_energy_of_several_gpus_is_their_sum(plug_in):
    plug_in("GPU-a", "GPU-b")
    assert energy.Meter(["GPU-a", "GPU-b"]).joules() == 5.0


def test_energy_is_summed_over_resumes(plug_in, tmp_path):
    record = tmp_path / "run"
    plug_in("GPU-a")
    with pytest.raises(SystemExit):
        toy.train(record, on_step=stop_at(50))
    assert joules(record) == 2.5
    plug_in("GPU-b", rate=4000)
    with pytest.raises(SystemExit):
        toy.train(record, on_step=stop_at(80))
    toy.train(record)
    assert joules(record) == 2.5 + 4.0 + 4.0


def test_energy_of_a_run_of_which_a_process_was_killed_is_unknown(plug_in, tmp_path):
    record = tmp_path / "run"
    with program("tests.record.fork_server") as run:
        assert run(record=str(record), options={}, kill={"step": 50}) == -9
    plug_in("GPU-a")
    toy.train(record)
    assert open_record(record).meta.resumes
    assert joules(record) is None


def test_energy_is_not_claimed_while_a_resumed_run_goes_on(plug_in, tmp_path):
    record, seen = tmp_path / "run", []
    plug_in("GPU-a")
    with pytest.raises(SystemExit):
        toy.train(record, on_step=stop_at(50))
    toy.train(record, on_step=lambda step, run: seen.append(joules(record)))
    assert set(seen) == {None}


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_driver_that_refuses_costs_the_figure_and_not_the_run(plug_in, tmp_path, broken):
    nvml = plug_in("GPU-a", broken=broken)
    record = open_record(toy.train(tmp_path / "run", steps=30))
    assert (record.meta.status, record.meta.energy_joules) == ("finished", None)
    assert nvml.open == 0


def test_gpu_of_another_machine_makes_the_sum_unknown(plug_in):
    plug_in("GPU-here")
    assert energy.Meter(["GPU-elsewhere", "GPU-here"]).joules() is None


def test_counter_that_began_again_makes_the_difference_unknown(plug_in):
    nvml = plug_in("GPU-a")
    meter = energy.Meter(["GPU-a"])
    nvml.counters["GPU-a"] = 0
    assert meter.joules() is None


def test_model_on_the_cpu_is_on_no_gpu():
    assert energy.gpus(torch.nn.Linear(2, 2).parameters()) == []


def test_run_on_the_cpu_has_no_energy(finished):
    assert joules(finished) is None


def test_gpu_is_not_measured_and_not_missed_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails, as where it is not installed
    assert energy.Meter(["GPU-a"]).joules() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_that_works_uses_energy():
    pytest.importorskip("pynvml")
    x = torch.randn(4096, 4096, device="cuda")
    uuids = energy.gpus([x])
    meter = energy.Meter(uuids)
    for _ in range(2000):
        x = torch.nn.functional.normalize(x @ x)
    torch.cuda.synchronize()
    joules = meter.joules()
    assert len(uuids) == 1
    assert joules is None or 1 < joules < 1e5  # None on a GPU before Volta, or a slice of one
