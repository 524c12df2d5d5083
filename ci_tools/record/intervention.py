"""What one change of a diagnosed segment does inside the recorder; see `ci_tools.repro.counterfactual`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ci_tools.record.loader import Loader, start_epoch
from ci_tools.repro import determinism
from ci_tools.repro.order import SeededBatches
from ci_tools.repro.segment import Change

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


class Intervention:
    """Carries out a change; every method does nothing where the change does not ask for it."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._wide = _Wide()
        self._spare: Any = None

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Change model and optimizer, before a checkpoint is loaded into them."""
        change = self.change
        if change.initialise:
            _initialise(model)
        if change.float64:
            model.double()
        if change.clip_norm:
            optimizer.register_step_pre_hook(_clip(change.clip_norm))
        if change.lr_factor != 1:
            _scale_rates(optimizer, change.lr_factor)

    def begin(self, loader: Loader[Any], seed: int, step: int) -> None:
        """The loop is about to start at `step`."""
        sampler: SeededBatches = loader.batch_sampler
        if self.change.seed is not None:
            sampler.seed = self.change.seed
            determinism.seed_everything(self.change.seed)
        if self.change.without:
            while step in self.change.without:
                step += 1
            epoch, cursor = divmod(step, len(sampler))
            sampler.seek(epoch, cursor)
            self._spare = next(start_epoch(loader, seed, epoch))

    def batch(self, step: int, batch: Any) -> Any:
        """The batch that the loop gets at `step`."""
        chosen = self._spare if step in self.change.without else batch
        return tree_map(_widen, chosen) if self.change.float64 else chosen

    def computing(self) -> AbstractContextManager[Any]:
        """While the loop's own code runs."""
        return self._wide if self.change.float64 else nullcontext()

    def measuring(self) -> AbstractContextManager[Any]:
        """While the recorder's code runs inside the loop's."""
        return self._wide.sleeping() if self.change.float64 else nullcontext()


class _Wide(TorchFunctionMode):
    """Keeps a float64 computation in float64: casts to narrower types go to float64 instead, and operands that meet
    a float64 tensor are widened. What works in place is left alone: PyTorch then keeps the target's type.
    """

    _asleep = False

    @contextmanager
    def sleeping(self) -> Iterator[None]:
        """Leave everything alone meanwhile."""
        self._asleep = True
        try:
            yield
        finally:
            self._asleep = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        in_place = name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))
        leaves, structure = tree_flatten((args, kwargs))
        wide = any(isinstance(leaf, Tensor) and leaf.dtype == torch.float64 for leaf in leaves)
        if self._asleep or in_place or not wide:
            return func(*args, **kwargs)
        if name in ("float", "half", "bfloat16"):
            return args[0]
        args, kwargs = tree_unflatten([_widen(leaf) for leaf in leaves], structure)
        return func(*args, **kwargs)


def _widen(leaf: Any) -> Any:
    if isinstance(leaf, torch.dtype):
        return torch.float64 if leaf in _NARROW else leaf
    return leaf.double() if isinstance(leaf, Tensor) and leaf.dtype in _NARROW else leaf


def _initialise(model: nn.Module) -> None:
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def _clip(norm: float) -> Callable[..., None]:
    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], norm)

    return before


def _scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Around the optimizer's step only, so that whatever schedule sets the rates never sees it."""
    own: list[Any] = []

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        own[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group, lr in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = lr

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
