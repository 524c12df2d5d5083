"""Runs made from formulas: clean ones, varied by seed, in which a test plants one thing with `dataclasses.replace`.

S = steps, L = layers, P = probes, E = evaluations, V = validation examples, N = training examples, H = shadow steps.
"""

import numpy as np

from ci_tools.gates.training import Series, Training

STEPS, EPOCH, BATCH, PROBE_EVERY, EVALUATE_EVERY, SHADOW_EVERY, CHECKPOINT_EVERY = 200, 25, 32, 10, 20, 40, 100
SHAPES = ((16, 8), (16,), (16, 16), (16,), (16, 16), (16,), (16, 16), (16,), (2, 16), (2,))
LAYERS = tuple(f"{i // 2}.{'bias' if i % 2 else 'weight'}" for i in range(len(SHAPES)))
NULL = 0.693
EXAMPLES, VALIDATION = EPOCH * BATCH, 400


def fall(steps=STEPS, floor=0.2, rate=8.0):
    """Loss of a clean run without its noise: exponential from the null loss to `floor` of it."""
    return NULL * (floor + (1 - floor) * np.exp(-rate * np.arange(steps) / steps))


def clean(seed=0, steps=STEPS):
    """A healthy run of a five-layer classifier."""
    rng = np.random.default_rng(seed)
    layers, step = len(SHAPES), np.arange(steps)
    loss = fall(steps) * np.exp(rng.normal(0, 0.06, steps))
    scale = np.exp(rng.normal(0, 0.3, layers)) * 1e-2
    rms = scale * np.sqrt(loss / NULL)[:, None] * np.exp(rng.normal(0, 0.2, (steps, layers)))
    sizes = np.array([np.prod(shape) for shape in SHAPES])
    probe = np.arange(PROBE_EVERY - 1, steps, PROBE_EVERY)
    evaluated = np.arange(EVALUATE_EVERY, steps + 1, EVALUATE_EVERY)
    shadow = np.arange(SHADOW_EVERY, steps + 1, SHADOW_EVERY)
    hardness = np.exp(rng.normal(0, 0.7, VALIDATION))
    example_loss = np.outer(fall(steps)[evaluated - 1] * 1.1, hardness)
    example_loss *= np.exp(rng.normal(0, 0.1, example_loss.shape))
    square = np.square(rms[probe]) @ sizes
    sensitivity = 2.0**-24 * np.exp(rng.normal(1, 0.3, (len(shadow), layers)))
    return Training(
        name=f"seed-{seed}",
        status="finished",
        reason="",
        layers=LAYERS,
        shapes=SHAPES,
        batch_size=BATCH,
        total_steps=steps,
        steps_per_epoch=EPOCH,
        checkpoint_every=CHECKPOINT_EVERY,
        probe_every=PROBE_EVERY,
        precision="float32",
        null_loss=NULL,
        recoveries=(),
        step_S=step,
        samples_S=(step + 1) * BATCH,
        loss_S=loss,
        lr_S=np.full(steps, 0.05),
        grad_norm_S=np.sqrt(np.square(rms) @ sizes),
        clip_S=np.ones(steps),
        nonfinite_S=np.zeros(steps, dtype=np.int64),
        step_ms_S=2 * np.exp(rng.normal(0, 0.1, steps)),
        data_ms_S=0.1 * np.exp(rng.normal(0, 0.1, steps)),
        grad_rms_SL=rms,
        grad_absmax_SL=4 * rms,
        probe_step_P=probe,
        histogram_PLB=np.zeros((len(probe), layers, 32), dtype=np.int64),
        update_ratio_PL=1e-3 * np.exp(rng.normal(0, 0.5, (len(probe), layers))),
        dead_share_PL=np.zeros((len(probe), layers)),
        cosine_previous_PL=rng.uniform(-0.2, 0.2, (len(probe), layers)),
        half_cosine_PL=rng.uniform(0.1, 0.6, (len(probe), layers)),
        noise_scale_P=np.full(len(probe), float(BATCH)),
        gradient_square_P=square * np.exp(rng.normal(0, 0.2, len(probe))),
        gradient_variance_P=square * BATCH * np.exp(rng.normal(0, 0.2, len(probe))),
        evals={("validation", "loss"): Series(step_E=evaluated, value_E=example_loss.mean(axis=1))},
        example_step_E=evaluated,
        example_loss_EV=example_loss,
        margin_N=rng.normal(3, 1, EXAMPLES),
        shadow_step_H=shadow,
        shadow_error_HL=sensitivity * np.exp(rng.normal(0, 0.3, sensitivity.shape)),
        shadow_sensitivity_HL=sensitivity,
    )
