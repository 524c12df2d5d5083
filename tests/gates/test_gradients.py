"""Vanishing gradients, noise and the health of layers, on runs made from formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ci_tools.gates import specimen
from ci_tools.gates.gradients import dead_units, gradient_noise, gradient_spikes, update_ratio, vanishing_gradients

SEEDS = range(10)
DEPTH = np.arange(len(specimen.SHAPES)) // 2


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def stalled(run):
    return replace(run, loss_S=run.loss_S / specimen.fall() * specimen.NULL)


def vanishing(run, decades_per_layer=1.0):
    return replace(run, grad_rms_SL=run.grad_rms_SL * 10.0 ** (-decades_per_layer * (4 - DEPTH)))


def with_cosine(run, mean, seed=0):
    """Half-batch cosines about a mean, with the scatter of small probes."""
    shape = run.half_cosine_PL.shape
    return replace(run, half_cosine_PL=mean + np.random.default_rng(seed).normal(0, 0.05, shape))


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_runs_pass(seed):
    run = specimen.clean(seed)
    for gate in (vanishing_gradients, gradient_noise, gradient_spikes, dead_units, update_ratio):
        found = gate(run)
        assert found.reading.statistic <= found.limit, found


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_that_die_out_while_the_loss_stalls_are_named(seed):
    found = vanishing_gradients(vanishing(stalled(specimen.clean(seed))))
    assert failed(found)
    assert found.reading.evidence["fall, decades"] == pytest.approx(3, abs=0.8)


@pytest.mark.parametrize("group", [0, 1], ids=["matrices", "biases"])
def test_either_matrices_or_biases_show_it(group):
    run = stalled(specimen.clean(1))
    rms = np.where(np.arange(10) % 2 == group, vanishing(run).grad_rms_SL, run.grad_rms_SL)
    assert failed(vanishing_gradients(replace(run, grad_rms_SL=rms)))


@pytest.mark.parametrize(
    "harmless",
    [
        lambda run: vanishing(run),
        lambda run: stalled(run),
        lambda run: stalled(replace(run, grad_rms_SL=np.where(DEPTH < 2, 0.0, run.grad_rms_SL))),
        lambda run: stalled(replace(run, grad_rms_SL=np.where(np.arange(10) == 0, 1e-6, 1.0) * run.grad_rms_SL)),
        lambda run: replace(run, grad_rms_SL=run.grad_rms_SL * 1e-6),
    ],
    ids=["learning all the same", "stalled for another reason", "frozen layers", "sparse embedding", "converged"],
)
def test_one_condition_alone_is_not_vanishing(harmless):
    found = vanishing_gradients(harmless(specimen.clean(1)))
    assert not failed(found)
    assert np.isfinite(found.reading.statistic)


def test_what_a_divergence_does_to_gradients_is_not_vanishing():
    run = vanishing(specimen.clean(1), decades_per_layer=0)
    late = np.arange(specimen.STEPS) >= 60
    saturated = np.where(late[:, None], vanishing(run).grad_rms_SL, run.grad_rms_SL)
    assert failed(
        vanishing_gradients(replace(run, grad_rms_SL=saturated, loss_S=np.full(specimen.STEPS, specimen.NULL)))
    )
    diverged = replace(run, grad_rms_SL=saturated, loss_S=np.where(late, 50.0, run.loss_S))
    assert not failed(vanishing_gradients(diverged))


def test_two_matrices_have_no_depth():
    run = specimen.clean(1)
    rms = np.where(DEPTH < 3, 0.0, run.grad_rms_SL)
    shallow = replace(run, grad_rms_SL=rms)
    assert np.isnan(vanishing_gradients(shallow).reading.statistic)


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_that_do_not_agree_are_noise(seed):
    assert failed(gradient_noise(with_cosine(stalled(specimen.clean(seed)), 0.02, seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_that_grows_once_most_is_learned_is_natural(seed):
    run = specimen.clean(seed)
    late = run.probe_step_P >= 70
    assert not failed(gradient_noise(replace(run, half_cosine_PL=np.where(late[:, None], -0.2, run.half_cosine_PL))))


def test_what_a_divergence_does_to_halves_is_not_noise():
    run = stalled(specimen.clean(1))
    diverged = replace(run, loss_S=np.where(np.arange(specimen.STEPS) < 60, run.loss_S, 50.0))
    late = run.probe_step_P >= 60
    half_cosine = np.where(late[:, None], -0.2, run.half_cosine_PL)
    assert failed(gradient_noise(replace(run, half_cosine_PL=half_cosine)))
    assert not failed(gradient_noise(replace(diverged, half_cosine_PL=half_cosine)))


def test_statistic_is_the_noise_scale_at_the_end_of_scipys_t_interval():
    run = with_cosine(stalled(specimen.clean(1)), 0.2)
    mean_P = run.half_cosine_PL[:, run.matrices()].mean(axis=1)
    high = stats.ttest_1samp(mean_P, 0).confidence_interval(0.9).high
    assert gradient_noise(run).reading.statistic == pytest.approx((1 / high - 1) / 2, rel=1e-9)


def test_cosine_of_real_half_batches_gives_back_the_planted_noise_scale():
    rng = np.random.default_rng(0)
    run, batch, noise_scale = stalled(specimen.clean(1)), specimen.BATCH, 80.0
    cosine = np.empty(run.half_cosine_PL.shape)
    for p, layer in np.ndindex(cosine.shape):
        mean = rng.normal(size=4000)
        mean /= np.linalg.norm(mean)
        per_sample = np.sqrt(noise_scale / len(mean))  # tr(Σ) / |G|² is the noise scale
        a, b = (mean + rng.normal(0, per_sample / np.sqrt(batch / 2), 4000) for _ in range(2))
        cosine[p, layer] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    found = gradient_noise(replace(run, half_cosine_PL=cosine)).reading.evidence
    assert found["noise scale over batch size"] == pytest.approx(noise_scale / batch, rel=0.05)


def test_halves_of_a_data_set_of_few_batches_tell_nothing():
    run = with_cosine(stalled(specimen.clean(1)), 0.0)
    assert np.isnan(gradient_noise(replace(run, steps_per_epoch=3)).reading.statistic)


def test_layers_without_gradient_do_not_look_like_noise():
    run = with_cosine(stalled(specimen.clean(1)), 0.15)
    frozen = np.arange(10) < 6
    half_cosine, rms = np.where(frozen, -0.2, run.half_cosine_PL), np.where(frozen, 0.0, run.grad_rms_SL)
    assert failed(gradient_noise(replace(run, half_cosine_PL=half_cosine)))
    assert not failed(gradient_noise(replace(run, half_cosine_PL=half_cosine, grad_rms_SL=rms)))


def spiked(run, steps, factor=1e4):
    norm, rms = run.grad_norm_S.copy(), run.grad_rms_SL.copy()
    norm[steps] *= factor
    rms[np.ix_(steps, [4])] *= factor
    return replace(run, grad_norm_S=norm, grad_rms_SL=rms)


def test_repeated_spikes_are_named_with_steps_and_layer_and_two_do_no_harm():
    found = gradient_spikes(spiked(specimen.clean(1), [60, 90, 130]))
    assert failed(found)
    assert sorted(found.reading.evidence["steps"]) == [60, 90, 130]
    assert found.reading.evidence["layer"] == specimen.LAYERS[4]
    assert not failed(gradient_spikes(spiked(specimen.clean(1), [60, 90])))


def solved(run, factor=1e-4, every=9):
    """A task that is nearly solved from the middle on: its gradient vanishes but in each ninth batch."""
    size = np.ones(len(run.grad_norm_S))
    size[len(size) // 2 :] = factor
    size[len(size) // 2 :: every] = 0.5
    return replace(run, grad_norm_S=run.grad_norm_S * size, grad_rms_SL=run.grad_rms_SL * size[:, None])


def test_hard_batches_of_a_task_that_is_nearly_solved_are_no_spikes():
    found = gradient_spikes(solved(specimen.clean(1)))
    assert not failed(found)
    assert found.reading.statistic > 1


def test_spikes_are_told_with_the_norm_that_they_are_measured_by():
    before, after = specimen.clean(1), solved(specimen.clean(1))
    width, half = specimen.STEPS // 20, specimen.STEPS // 2
    medians = [np.median(before.grad_norm_S[i - width : i]) for i in range(width + 1, half)]
    run = spiked(after, [60, 180], factor=1e6)
    found = gradient_spikes(run).reading.evidence
    assert found["usual gradient norms"][0] == pytest.approx(np.median(before.grad_norm_S[50:60]), rel=0.05)
    assert found["usual gradient norms"][1] == pytest.approx(max(medians) / 10, rel=0.05)
    norms = np.multiply(found["ratios"], found["usual gradient norms"])
    assert norms == pytest.approx(run.grad_norm_S[found["steps"]])


def test_spikes_of_a_task_that_is_nearly_solved_are_still_found():
    run = solved(specimen.clean(1))
    middle = len(run.grad_norm_S) // 2
    steps = [middle + 9 * k for k in (1, 2, 3)]
    assert failed(gradient_spikes(spiked(run, steps, factor=1e2)))


def test_gradients_that_are_large_later_hide_no_earlier_spike():
    size = 10.0 ** np.maximum(np.arange(specimen.STEPS) / 50 - 2, 0)
    run = spiked(specimen.clean(1), [60, 75, 90], factor=1e2)
    rising = replace(run, grad_norm_S=run.grad_norm_S * size)
    assert sorted(gradient_spikes(rising).reading.evidence["steps"]) == [60, 75, 90]
    assert failed(gradient_spikes(rising))


def test_large_gradients_of_the_very_first_steps_hide_no_spike():
    run = spiked(specimen.clean(1), [60, 90, 130], factor=1e2)
    assert failed(gradient_spikes(run))
    assert failed(gradient_spikes(replace(run, grad_norm_S=run.grad_norm_S * np.where(run.step_S < 5, 1e3, 1))))


def test_units_without_gradient_are_dead_but_rows_of_an_embedding_are_not():
    run = specimen.clean(1)
    dead = run.dead_share_PL.copy()
    dead[8:, 3] = 0.95
    found = dead_units(replace(run, dead_share_PL=dead))
    assert failed(found)
    assert found.reading.evidence["layer"] == specimen.LAYERS[3]
    embedding = run.dead_share_PL.copy()
    embedding[:, 0] = 0.99
    assert not failed(dead_units(replace(run, dead_share_PL=embedding)))


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_layer_that_hardly_moves_or_is_thrown_about_is_named(factor):
    run = specimen.clean(1)
    ratio = run.update_ratio_PL.copy()
    ratio[:, 6] *= factor
    found = update_ratio(replace(run, update_ratio_PL=ratio))
    assert failed(found)
    assert found.reading.evidence["layer"] == specimen.LAYERS[6]
    ratio[:, 6] = 0
    assert not failed(update_ratio(replace(run, update_ratio_PL=ratio)))


def test_output_of_few_weights_is_no_sign_of_vanishing_gradients():
    """The same signal in every layer, in a network that is far wider than its output, while nothing is learned."""
    shapes = ((512, 512), (512, 512), (512, 512), (512, 512), (1, 512))
    rms = np.tile(1 / np.sqrt([np.prod(shape) for shape in shapes]), (specimen.STEPS, 1))
    wide = replace(
        specimen.clean(),
        shapes=shapes,
        layers=tuple(f"{i}.weight" for i in range(5)),
        grad_rms_SL=rms,
        loss_S=np.full(specimen.STEPS, specimen.NULL),
    )
    assert vanishing_gradients(wide).reading.statistic < 0.1
    shrinking = replace(wide, grad_rms_SL=rms * 10.0 ** (np.arange(5) - 4))
    assert vanishing_gradients(shrinking).reading.statistic > 1
