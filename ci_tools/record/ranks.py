"""What a record needs from DistributedDataParallel; without it each call is the one-process case."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ci_tools.errors import SwitchbackError

T = TypeVar("T")


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


def decide(choose: Callable[[], T]) -> T:
    """What rank 0 chooses, on every rank. A choice that reads or changes the disk must be made once, not by a race.

    Raises:
        SwitchbackError: the choice failed on rank 0; then it fails on every rank.
    """
    if not _running():
        return choose()
    answer: Any = None
    if rank_and_world()[0] == 0:
        try:
            answer = choose()
        except SwitchbackError as error:
            answer = error
    answer = gather(answer)[0]
    if isinstance(answer, SwitchbackError):
        raise answer
    choice: T = answer
    return choice


def barrier() -> None:
    """Wait for all ranks."""
    if _running():
        dist.barrier()


def average_(values: torch.Tensor) -> None:
    """Replace values by their mean over the ranks."""
    if _running():
        # Gloo takes a strided view for a dense one without a word, and would sum its neighbours instead.
        dense = values.contiguous()
        dist.all_reduce(dense)
        values.copy_(dense.div_(dist.get_world_size()))


def sum_to_first_(values: torch.Tensor) -> None:
    """Replace values by their sum over the ranks on rank 0, and by 0 elsewhere."""
    if _running():
        dist.all_reduce(values)
        if dist.get_rank() > 0:
            values.zero_()


def any_rank(flag: bool, *, often: bool) -> bool:
    """Whether any rank raises the flag; with several ranks it is looked at only when `often` is true on all of them."""
    if not _running():
        return flag
    return often and any(gather(flag))


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()
