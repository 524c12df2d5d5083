"""Every run of every seed converged, with healthy gradients, and learned from labels that are right."""

import pytest

from ci_tools.gates.convergence import divergence, plateau, slow_convergence
from ci_tools.gates.gradients import dead_units, gradient_noise, gradient_spikes, update_ratio, vanishing_gradients
from ci_tools.gates.labels import label_noise
from ci_tools.gates.numerics import numerical_instability
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.timing import stragglers

ALONE = [
    divergence,
    numerical_instability,
    vanishing_gradients,
    overfitting,
    plateau,
    gradient_noise,
    gradient_spikes,
    dead_units,
    update_ratio,
    label_noise,
    stragglers,
]


@pytest.mark.parametrize("gate", ALONE)
def test_training(gate, run, policy):
    policy.require(gate.over(run.trainings))


def test_slow_convergence(run, policy):
    policy.require(slow_convergence.over(run.trainings, policy.reference))
