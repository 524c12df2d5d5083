"""Update rule, learning-rate schedule and early stopping, as params.yaml asks for them."""

import math
from typing import Any

import torch

from model.params import Train


def build_optimizer(model: torch.nn.Module, p: Train) -> torch.optim.Optimizer:
    """The optimizer of `p.optimizer`; biases, norms and embeddings are not decayed."""
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    decayed = [w for w in model.parameters() if w.dim() > 1 and id(w) not in embedded]
    others = [w for w in model.parameters() if w.dim() <= 1 or id(w) in embedded]
    groups = [{"params": decayed, "weight_decay": p.weight_decay}, {"params": others, "weight_decay": 0.0}]
    match p.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=p.lr)
        case "momentum":
            return torch.optim.SGD(groups, lr=p.lr, momentum=p.momentum, nesterov=p.momentum > 0)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=p.lr, momentum=p.momentum)
        case "adam":
            return torch.optim.Adam(groups, lr=p.lr, betas=p.betas)
        case "adamw":
            return torch.optim.AdamW(groups, lr=p.lr, betas=p.betas)


class Schedule:
    """Learning rate as a function of the step, times factors that events leave behind (plateau, recovery)."""

    def __init__(self, optimizer: torch.optim.Optimizer, p: Train) -> None:
        self.optimizer, self.p = optimizer, p
        self.recovery_factor = self.plateau_factor = 1.0
        self.best, self.waited = -math.inf, 0

    def apply(self, step: int) -> None:
        """Set the learning rate of optimizer step `step`."""
        lr = self.p.lr * self.recovery_factor * self.plateau_factor * self._shape(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def observe(self, metric: float) -> None:
        """Tell the plateau schedule a validation figure; higher is better."""
        if metric > self.best:
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.p.schedule == "plateau" and self.waited >= self.p.plateau_patience:
            self.plateau_factor *= self.p.step_factor
            self.waited = 0

    def halve(self) -> None:
        """Half the learning rate from here on; called after a return to a good checkpoint."""
        self.recovery_factor /= 2

    def _shape(self, step: int) -> float:
        if step < self.p.warmup:
            return (step + 1) / self.p.warmup
        since, rest = step - self.p.warmup, self.p.steps - self.p.warmup
        match self.p.schedule:
            case "step":
                return float(self.p.step_factor ** (since // self.p.step_every))
            case "cosine":
                low = self.p.final_lr_share
                return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * since / rest))
            case _:
                return 1.0

    def state_dict(self) -> dict[str, Any]:
        """What events have left behind."""
        return {
            "recovery_factor": self.recovery_factor,
            "plateau_factor": self.plateau_factor,
            "best": self.best,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.__dict__.update(state)


class EarlyStopping:
    """Stops after `patience` evaluations without improvement; 0 never stops."""

    def __init__(self, patience: int) -> None:
        self.patience, self.waited = patience, 0

    def stop(self, *, improved: bool) -> bool:
        """Whether training should end, given whether the last evaluation was the best so far."""
        self.waited = 0 if improved else self.waited + 1
        return bool(self.patience) and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Evaluations waited."""
        return {"waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.waited = state["waited"]
