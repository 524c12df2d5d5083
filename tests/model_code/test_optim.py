import math

import pytest
import torch

from model.network import RiskNetwork
from model.optim import EarlyStopping, Schedule, build_optimizer
from model.params import Network, Train

SCHEMA = {
    "numeric": [{"name": "n", "mean": 0.0, "scale": 1.0, "transform": "identity"}],
    "categorical": [{"name": "c", "categories": ["a", "b"]}],
}
PEAK = {"lr": 0.5, "warmup": 4, "steps": 24}


def rates(p, steps=None):
    """The learning rate of every step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=p.lr)
    schedule, seen = Schedule(optimizer, p), []
    for step in range(p.steps if steps is None else steps):
        schedule.apply(step)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def torch_rates(build, steps, lr):
    """The learning rate of every step under a scheduler of torch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, seen = build(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


# -- schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["constant", "step", "cosine", "plateau"])
def test_every_schedule_warms_up_linearly_to_the_peak(kind):
    p = Train(**PEAK, schedule=kind)
    warm = torch_rates(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / 4, 1.0, total_iters=3), 4, p.lr)
    assert rates(p)[:4] == pytest.approx(warm)
    assert rates(p)[4] == pytest.approx(p.lr)


def test_without_warm_up_the_first_step_has_the_peak():
    assert rates(Train(lr=0.5, warmup=0, steps=5, schedule="constant")) == [0.5] * 5


def test_cosine_is_that_of_torch():
    p = Train(**PEAK, schedule="cosine", final_lr_share=0.1)
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.05), 20, p.lr)
    assert rates(p)[4:] == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_cosine_ends_at_its_share_of_the_peak(share):
    p = Train(**PEAK, schedule="cosine", final_lr_share=share)
    assert rates(p, p.steps + 1)[-1] == pytest.approx(share * p.lr)


def test_step_drops_are_those_of_torch():
    p = Train(**PEAK, schedule="step", step_every=6, step_factor=0.3)
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 6, gamma=0.3), 20, p.lr)
    assert rates(p)[4:] == pytest.approx(expected)
    assert len({round(r, 9) for r in rates(p)[4:]}) == 4


def test_plateau_drops_when_torch_does():
    p = Train(**PEAK, schedule="plateau", plateau_patience=3, step_factor=0.3)
    metrics = [0.1, 0.2, 0.2, 0.19, 0.1, 0.1, 0.3, 0.3, 0.3, 0.29, 0.31, 0.1, 0.1, 0.1, 0.1]
    ours, theirs = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=p.lr) for _ in range(2))
    schedule = Schedule(ours, p)
    # torch drops one evaluation after its patience has run out, and asks for a minimal gain by default
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, "max", factor=0.3, patience=2, threshold=0)
    for metric in metrics:
        schedule.observe(metric)
        scheduler.step(metric)
        schedule.apply(10)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])
    assert ours.param_groups[0]["lr"] == pytest.approx(0.5 * 0.3**3)


@pytest.mark.parametrize("kind", ["constant", "step", "cosine"])
def test_other_schedules_ignore_the_metric(kind):
    p = Train(**PEAK, schedule=kind, plateau_patience=1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=p.lr)
    schedule = Schedule(optimizer, p)
    for metric in (0.5, 0.4, 0.3):
        schedule.observe(metric)
    schedule.apply(7)
    assert optimizer.param_groups[0]["lr"] == rates(p)[7]


def test_halving_reaches_every_group_and_compounds():
    optimizer = build_optimizer(torch.nn.Linear(2, 2), Train(**PEAK))
    schedule = Schedule(optimizer, Train(**PEAK, schedule="constant"))
    schedule.halve()
    schedule.halve()
    schedule.apply(10)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_schedule_state_round_trips():
    p = Train(**PEAK, schedule="plateau", plateau_patience=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=p.lr)
    first, second = Schedule(optimizer, p), Schedule(optimizer, p)
    for metric in (0.5, 0.4, 0.3, 0.2):
        first.observe(metric)
    first.halve()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() != Schedule(optimizer, p).state_dict()
    for schedule in (first, second):
        schedule.observe(0.1)
    assert first.plateau_factor == second.plateau_factor < 1
    assert second.recovery_factor == 0.5


# -- optimizers ---------------------------------------------------------------------------------------------------


def sgd(w, g, state, p):
    return w - p.lr * (g + p.weight_decay * w)


def momentum(w, g, state, p):
    g = g + p.weight_decay * w
    state["m"] = p.momentum * state["m"] + g if state else g
    return w - p.lr * (g + p.momentum * state["m"])


def rmsprop(w, g, state, p):
    g = g + p.weight_decay * w
    state["v"] = 0.99 * state.get("v", 0.0) + 0.01 * g * g
    state["m"] = p.momentum * state.get("m", 0.0) + g / (math.sqrt(state["v"]) + 1e-8)
    return w - p.lr * state["m"]


def adam_step(g, state, p):
    b1, b2 = p.betas
    state["t"] = state.get("t", 0) + 1
    state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g * g
    first, second = state["m"] / (1 - b1 ** state["t"]), state["v"] / (1 - b2 ** state["t"])
    return p.lr * first / (math.sqrt(second) + 1e-8)


def adam(w, g, state, p):
    return w - adam_step(g + p.weight_decay * w, state, p)


def adamw(w, g, state, p):
    return w * (1 - p.lr * p.weight_decay) - adam_step(g, state, p)


@pytest.mark.parametrize("rule", [sgd, momentum, rmsprop, adam, adamw], ids=lambda rule: rule.__name__)
def test_update_rule_is_that_of_the_textbook(rule):
    p = Train(optimizer=rule.__name__, lr=0.1, weight_decay=0.2, momentum=0.8, betas=(0.7, 0.9))
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    optimizer = build_optimizer(model, p)
    expected, state = model.weight.item(), {}
    for gradient in (1.5, -0.5, 0.25, 2.0):
        model.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        optimizer.step()
        expected = rule(expected, gradient, state, p)
        assert model.weight.item() == pytest.approx(expected, rel=1e-9)


def test_every_parameter_is_optimised_once_and_only_matrices_decay():
    model = RiskNetwork(Network(width=4, blocks=1), SCHEMA)
    optimizer = build_optimizer(model, Train(weight_decay=0.3))
    decay = {id(w): group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, w in model.named_parameters():
        decays = name.endswith("weight") and "norm" not in name and "embeddings" not in name
        assert decay[id(w)] == (0.3 if decays else 0.0), name


# -- early stopping -----------------------------------------------------------------------------------------------


def test_early_stopping_counts_evaluations_since_the_best():
    stopping = EarlyStopping(2)
    assert [stopping.stop(improved=i) for i in (True, False, True, False, False)] == [False] * 4 + [True]


def test_patience_of_zero_never_stops():
    stopping = EarlyStopping(0)
    assert not any(stopping.stop(improved=False) for _ in range(50))


def test_early_stopping_state_round_trips():
    first, second = EarlyStopping(2), EarlyStopping(2)
    first.stop(improved=False)
    second.load_state_dict(first.state_dict())
    assert second.stop(improved=False)
