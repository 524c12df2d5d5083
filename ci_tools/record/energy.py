"""Energy of a run, by the counters of the GPUs that hold its model."""

from collections.abc import Iterable, Sequence

import torch

from ci_tools.record import ranks

_MILLIJOULES = 1e3


class Meter:
    """Counts from its making on. NVML is asked once then and once by `joules`.

    Args:
        uuids: the GPUs, as NVML names them; what else runs on them counts as well.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self._uuids = uuids
        self._start = _counter(uuids)
        self._before: float | None = 0.0

    def resume(self, before: float | None) -> None:
        """The run's earlier processes used `before` joules; None where that is unknown."""
        self._before = before

    def joules(self) -> float | None:
        """Energy of the whole run so far, in joules; None where a part of it is unknown.

        Law: the sum over the run's processes, or None. Half a sum would pass for a cheap run.
        """
        end = None if self._start is None else _counter(self._uuids)
        # A driver that was reloaded meanwhile counts from zero again.
        if self._before is None or self._start is None or end is None or end < self._start:
            return None
        return self._before + (end - self._start) / _MILLIJOULES


def gpus(parameters: Iterable[torch.Tensor]) -> list[str]:
    """UUIDs of the GPUs that hold these tensors, in every process of the run; none on the CPU. All ranks must call."""
    devices = {p.device for p in parameters if p.device.type == "cuda"}
    mine = [f"GPU-{torch.cuda.get_device_properties(device).uuid}" for device in devices]
    return sorted({uuid for one in ranks.gather(mine) for uuid in one})


def _counter(uuids: Sequence[str]) -> int | None:
    """Millijoules that these GPUs used since their driver was loaded; None without GPUs, or where NVML cannot tell.

    It cannot without the package nvidia-ml-py, before Volta, for a slice of a GPU (MIG), and for another machine's GPU.
    """
    if not uuids:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
            counted: int = sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)
            return counted
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # whatever a driver or its binding does: a figure on cost is no reason to stop training
        return None
