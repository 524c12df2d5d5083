"""The bench of planted faults: tasks that learn, and plants and look-alikes that do what they say."""

import itertools
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.faults import lookalikes, plants, tasks
from benchmarks.faults.loop import Fault, margin
from ci_tools.errors import CheckpointError
from ci_tools.repro import manifest

LEVELS = (0, 1, 2)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """One clean run of each task."""
    folder = tmp_path_factory.mktemp("clean")
    return {task: tasks.run(task, 5, None, folder) for task in tasks.TASKS}


def short(task, seed, change, folder, steps=30):
    """A run of few steps, changed."""

    def apply(experiment):
        experiment.steps = steps
        change(experiment)

    return tasks.run(task, seed, Fault("", "", "", apply), folder)


# -- tasks ----------------------------------------------------------------------------------------------------------


def test_every_task_learns_most_of_what_there_is(clean):
    assert {task: seen.training.status for task, seen in clean.items()} == dict.fromkeys(tasks.TASKS, "finished")
    assert min(seen.explained for seen in clean.values()) >= 0.6


def test_runs_carry_all_that_the_gates_look_at(clean):
    for seen in clean.values():
        training = seen.training
        assert len(training.margin_N) == len(seen.train[0]) == tasks.TRAIN
        assert training.example_loss_EV.shape == (len(training.example_step_E), len(seen.test[0]))
        assert len(training.shadow_step_H) == 5
        assert np.isfinite(training.gradient_variance_P).all()
        assert len(training.probe_step_P) == 30


def test_explained_share_is_that_of_the_last_evaluation(clean):
    training = clean["linear"].training
    null = np.var(tasks.TASKS["linear"](5).train.y.numpy())
    assert clean["linear"].explained == pytest.approx(1 - training.example_loss_EV[-1].mean() / null, rel=1e-5)


@pytest.mark.parametrize("task", ["linear", "sequence"])
def test_run_is_a_function_of_its_seed(task, tmp_path):
    seen = [short(task, seed, lambda _: None, tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))]
    first, again, other = (one.training.loss_S for one in seen)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(seen[0].train[0], seen[2].train[0])


def test_null_loss_is_that_of_the_best_constant():
    experiment = tasks.TASKS["digits"](0)
    y = experiment.train.y
    constant_NC = torch.bincount(y).log().expand(len(y), -1)
    assert experiment.null_loss == pytest.approx(float(F.cross_entropy(constant_NC, y)), rel=1e-5)


def test_margin_by_brute_force():
    output_BC, class_B = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    expected = [
        float(row[c] - max(x for i, x in enumerate(row) if i != c)) for row, c in zip(output_BC, class_B, strict=True)
    ]
    assert margin(output_BC, class_B).tolist() == pytest.approx(expected)


# -- plants ---------------------------------------------------------------------------------------------------------


def test_every_mode_exists_in_six_tasks_at_least():
    assert len(plants.MODES) == 10
    for mode, severity in itertools.product(plants.MODES, plants.SEVERITIES):
        assert sum(plants.plant(mode, severity, task, 0) is not None for task in tasks.TASKS) >= 6


def test_seeds_take_turns_among_the_mechanisms():
    found = {plants.plant("data_leakage", "mild", "digits", seed).how for seed in range(3)}
    assert found == {"copied_rows", "nearly_copied_rows", "feature_that_tells"}


def test_faults_in_training_leave_the_twin_its_data():
    for mode in ("divergence", "vanishing_gradients", "gradient_noise", "slow_convergence", "stragglers"):
        twin, changed = (tasks.TASKS["digits"](4) for _ in range(2))
        plants.plant(mode, "strong", "digits", 4).apply(changed)
        assert all(torch.equal(a, b) for a, b in zip(twin.train, changed.train, strict=True))


@pytest.mark.parametrize(("level", "share"), list(zip(LEVELS, (0.05, 0.1, 0.2), strict=True)))
def test_leaked_rows_are_as_many_as_they_should_be(level, share):
    experiment = tasks.TASKS["tabular"](0)
    plants.copied_rows(experiment, level)
    train = {tuple(row.tolist()) for row in experiment.train.x}
    leaked = sum(tuple(row.tolist()) in train for row in experiment.validation.x)
    assert leaked == round(share * tasks.VALIDATION)


def test_nearly_copied_rows_are_near_and_not_equal():
    experiment = tasks.TASKS["tabular"](0)
    plants.nearly_copied_rows(experiment, 1)
    nearest = torch.cdist(experiment.validation.x, experiment.train.x).amin(dim=1)
    assert int(((nearest > 0) & (nearest < 0.1)).sum()) == 96


def test_telling_feature_tells():
    experiment = tasks.TASKS["tabular"](0)
    plants.feature_that_tells(experiment, 1)
    value_N, label_N = experiment.validation.x[:, 0], experiment.validation.y
    assert float(value_N[label_N == 1].min()) > float(value_N[label_N == 0].max())


@pytest.mark.parametrize("mechanism", [plants.random_labels, plants.confused_labels])
@pytest.mark.parametrize(("level", "share"), list(zip(LEVELS, (0.1, 0.2, 0.4), strict=True)))
def test_flipped_labels_are_as_many_as_they_should_be(mechanism, level, share):
    twin, changed = (tasks.TASKS["digits"](2) for _ in range(2))
    mechanism(changed, level)
    assert int((twin.train.y != changed.train.y).sum()) == round(share * tasks.TRAIN)
    assert int(changed.train.y.max()) == 9
    assert torch.equal(twin.validation.y, changed.validation.y)


@pytest.mark.parametrize("mechanism", plants.MODES["checkpoint_corruption"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_corruption_breaks_a_checkpoint(mechanism, level, clean, tmp_path):
    record = tmp_path / "record"
    shutil.copytree(clean["linear"].record, record)
    for folder in manifest.list_checkpoints(record / "checkpoints"):
        manifest.verify(folder)
    experiment = tasks.TASKS["linear"](5)
    mechanism(experiment, level)
    experiment.on_record(record)
    broken = 0
    for folder in manifest.list_checkpoints(record / "checkpoints"):
        try:
            manifest.verify(folder)
        except CheckpointError:
            broken += 1
    assert broken == 1


@pytest.mark.parametrize("mechanism", plants.MODES["stragglers"])
@pytest.mark.parametrize("level", LEVELS)
def test_delays_make_the_mean_step_as_slow_as_they_say(mechanism, level, monkeypatch):
    now, slept = 0.0, []
    monkeypatch.setattr(plants.time, "perf_counter", lambda: now)
    monkeypatch.setattr(plants.time, "sleep", slept.append)
    experiment = tasks.TASKS["linear"](0)
    mechanism(experiment, level)
    for _ in range(experiment.steps):
        now += 0.002
        experiment.on_step()
        experiment.on_fetch()
    slow = slept[experiment.steps // 2 - experiment.steps // 3 :]
    assert (0.002 + np.mean(slow[: len(slow) // 4 * 4])) / 0.002 == pytest.approx(plants.SLOW[level])


def test_cancelling_norm_is_a_batch_norm_until_the_mean_is_large():
    x_BD = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    exact = F.batch_norm(x_BD, None, None, training=True)
    assert torch.allclose(plants.CancellingNorm(0.0)(x_BD), exact, atol=1e-5)
    errors = [float((plants.CancellingNorm(offset)(x_BD) - exact).abs().max()) for offset in (300.0, 1000.0, 3000.0)]
    assert 1e-3 < errors[0] < errors[1] < errors[2]
    wide = x_BD.double()
    assert torch.allclose(plants.CancellingNorm(1000.0)(wide).float(), exact, atol=1e-4)


def test_naive_losses_equal_the_sound_ones_until_they_overflow():
    generator = torch.Generator().manual_seed(0)
    output_BC, class_B = torch.randn(16, 5, generator=generator), torch.arange(16) % 5
    naive = plants.naive_cross_entropy(output_BC, class_B, scale=3.0)
    assert torch.allclose(naive, F.cross_entropy(3 * output_BC, class_B, reduction="none") / 3, atol=1e-6)
    assert not plants.naive_cross_entropy(output_BC, class_B, scale=100.0).isfinite().all()
    target_BC = torch.randn(16, 5, generator=generator)
    half = plants.half_squared_error(output_BC, target_BC, scale=10.0)
    assert torch.allclose(half, (output_BC - target_BC).square().mean(dim=1), rtol=1e-2)
    assert not plants.half_squared_error(output_BC, target_BC, scale=400.0).isfinite().all()


def test_gradient_noise_shows_in_the_two_halves(clean, tmp_path):
    noisy = short("recurrent", 5, lambda e: plants.noisy_gradients(e, 1), tmp_path, steps=60).training
    sound = clean["recurrent"].training
    first = [np.median(one.gradient_variance_P[:5]) / np.median(one.gradient_square_P[:5]) for one in (noisy, sound)]
    assert first[0] < 0 or first[0] > 10 * first[1]
    assert np.nanmean(noisy.half_cosine_PL[:5]) < 0.5 * np.nanmean(sound.half_cosine_PL[:5])


@pytest.mark.parametrize(("task", "level"), [("linear", 0), ("autoencoder", 0), ("recurrent", 1)])
def test_diverging_learning_rates_end_above_the_null_loss(task, level, tmp_path):
    seen = tasks.run(task, 3, Fault("", "", "", lambda e: plants.learning_rate_too_high(e, level)), tmp_path).training
    last = seen.loss_S[-10:].mean()
    assert not last < 2 * seen.null_loss


def test_undeclared_half_shows_against_float64(clean, tmp_path):
    rounded = short("linear", 5, lambda e: plants.undeclared_half(e, 1), tmp_path).training
    assert rounded.precision == "float32"
    assert rounded.shadow_error_HL.max() > 100 * clean["linear"].training.shadow_error_HL[0].max()


# -- look-alikes ----------------------------------------------------------------------------------------------------


def test_there_are_look_alikes_enough():
    spread = [sum(lookalikes.look_alike(name, task) is not None for task in tasks.TASKS) for name in lookalikes.KINDS]
    assert sum(n >= 6 for n in spread) >= 8
    assert min(spread) >= 1


@pytest.mark.parametrize("name", lookalikes.KINDS)
def test_look_alike_runs_to_its_end(name, tmp_path):
    task = next(task for task in reversed(tasks.TASKS) if lookalikes.look_alike(name, task))
    change = lookalikes.KINDS[name]
    assert short(task, 6, change, tmp_path).training.status == "finished"


def test_frozen_layer_alone_has_no_gradient(tmp_path):
    rms_SL = short("autoencoder", 6, lookalikes.frozen_layers, tmp_path).training.grad_rms_SL
    assert np.array_equal((rms_SL == 0).all(axis=0), [True, True] + [False] * 6)


def test_scaler_skips_three_steps(tmp_path):
    seen = short("linear", 6, lookalikes.scaler_warm_up, tmp_path).training
    assert np.flatnonzero(seen.nonfinite_S).tolist() == [0, 1, 3]
    assert np.isfinite(seen.loss_S).all()


def test_natural_duplicates_are_as_frequent_within_as_across():
    experiment = tasks.TASKS["digits"](0)
    lookalikes.natural_duplicates(experiment)
    train, test = (rows.x.flatten(1).numpy() for rows in (experiment.train, experiment.validation))
    known = {row.tobytes() for row in train}
    across = sum(row.tobytes() in known for row in test) / len(test)
    within = 1 - len(known) / len(train)
    assert 0.01 < across < 0.06
    assert 0.005 < within < 0.03  # a pair counts twice across the border's two sides, and once within


def test_rare_class_is_rare():
    experiment = tasks.TASKS["digits"](0)
    lookalikes.rare_class(experiment)
    share = float((experiment.train.y == 9).float().mean())
    assert 0 < share < 0.03
