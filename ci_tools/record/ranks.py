"""What a record needs from DistributedDataParallel; without it each call is the one-process case."""

import os
from typing import Any

import torch
import torch.distributed as dist


def rank_and_world() -> tuple[int, int]:
    """Rank of this process and the number of processes, as torchrun tells them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def gather(value: Any) -> list[Any]:
    """The value of every rank, in rank order."""
    if not _running():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    if _running():
        dist.barrier()


def average_(values: torch.Tensor) -> None:
    """Replace values by their mean over the ranks."""
    if _running():
        dist.all_reduce(values)
        values.div_(dist.get_world_size())


def any_rank(flag: bool, *, often: bool) -> bool:
    """Whether any rank raises the flag; with several ranks it is looked at only when `often` is true on all of them."""
    if not _running():
        return flag
    return often and any(gather(flag))


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()
