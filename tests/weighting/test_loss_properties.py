"""What every weighting on losses or on the Jacobian should survive: one table, one row a method."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import weighting as W
from tests.rows import by_default

K, P = 4, 6

# name, options, whether the tasks' order matters to nobody
LOSS_ROWS = [
    ("equal", {}, True),
    ("random", {"seed": 1}, False),
    ("random", {"seed": 1, "reduction": "sum"}, False),
    ("uncertainty", {}, True),
    ("uncertainty", {"kinds": "laplace", "initial": 0.5}, True),
    ("dwa", {"temperature": 1.5}, True),
    ("geometric", {}, True),
    ("scale_invariant", {}, True),
    ("imtl_l", {"initial": -0.5}, True),
    ("stch", {"warmup_epochs": 0}, True),
    ("stch", {"form": "plain", "mu": 0.3, "preference": [0.25] * K, "reference": 0.1}, True),
    ("famo", {}, True),
    ("famo", {"form": "next_batch", "reference": [0.01] * K, "learning_rate": 0.1}, True),
    ("dtp", {"gamma": 2.0}, True),
    ("pbi", {"theta": 2.0, "preference": [0.25] * K, "reference": -0.1}, True),
    ("pbi", {"theta": 0.0}, True),
    ("cosmos", {"lam": 3.0}, True),
    ("softadapt", {"beta": 0.5}, True),
    ("softadapt", {"beta": -2.0, "form": "normalized"}, True),
    ("softadapt", {"form": "loss_weighted"}, True),
    ("uw_so", {"temperature": 0.5}, True),
    ("relobralo", {"alpha": 0.5, "rho": 1.0}, True),
    ("relobralo", {"seed": 1, "alpha": 0.9, "rho": 0.5, "temperature": 0.1}, True),
]
JACOBIAN_ROWS = [
    ("graddrop", {"seed": 1, "leak": 0.2}, True),  # its draws are per coordinate, not per task
    ("dbmtl", {"beta_sigma": 0.5, "debias": True}, True),
    ("excess", {"learning_rate": 0.5}, True),
    ("excess", {"baseline": False, "warmup_steps": 1}, True),
    ("m_config", {"beta_1": 0.5, "beta_2": 0.9}, False),  # one task after the other
    ("m_config", {"rescale": False}, False),
    ("moco", {"rho": 0.1}, True),
    ("moco", {"projection": "softmax", "match_losses": False}, True),
    ("modo", {"learning_rate": 0.1}, True),
    ("modo", {"sub_batches": 2}, True),
    ("sdmgrad", {"learning_rate": 1.0, "iterations": 4}, True),
]
ROWS = LOSS_ROWS + JACOBIAN_ROWS
IDS = [f"{name}-{'-'.join(map(str, options))}" for name, options, _ in ROWS]
ONE_EACH = list({name: row for row in ROWS for name in row[:1]}.values())
LOSS_IDS = IDS[: len(LOSS_ROWS)]
ONES = np.ones(K, "float32")
LOGS = {f"t{k}_accuracy": 0.2 + 0.2 * k for k in range(K)}


def make(name, options):
    weighting = type(W.get(name))(**options)
    weighting.set_tasks([f"t{k}" for k in range(K)], ["regression"] * K)
    weighting.build((K, P) if weighting.requires == "jacobian" else (K,))
    return weighting


def arguments(weighting, seed=0, scale=1.0, present=ONES, order=slice(None)):
    """Losses, losses after the step, and the Jacobian where it is wanted; presence last."""
    rng = np.random.default_rng(seed)
    parts = getattr(weighting, "sub_batches", 1)
    losses = np.exp(rng.standard_normal((parts, K)))
    after = losses * np.exp(0.1 * rng.standard_normal((parts, K)))
    jacobian = rng.standard_normal((parts, K, P))
    values = [np.float32(scale) * v.astype("float32") for v in (losses, after, jacobian)]
    values = [np.take(v, np.arange(K)[order], axis=1) for v in values]
    present = present[order]
    values = [values[0] * present, values[1] * present, values[2] * present[:, None]]
    return [*(values if parts > 1 else [v[0] for v in values]), present]


def step(weighting, losses, after, jacobian, present):
    """One training step as the training loop makes it; the weights, and the direction or the objective."""
    if weighting.requires == "jacobian":
        direction, weights = weighting.direction(jacobian, losses, present)
        return weights, direction
    weights = weighting.task_weights(losses, present)
    objective = weighting.objective(losses, weights, present)
    weighting.update(losses, present, weights)
    if weighting.second_forward:
        weighting.after_step(losses, after, present)
    return weights, objective


def run(weighting, steps=4, call=step, **kwargs):
    """Results of some steps with an epoch's end in between."""
    results = []
    for seed in range(steps):
        inputs = [tf.constant(a) for a in arguments(weighting, seed=seed, **kwargs)]
        results.append([np.array(r) for r in call(weighting, *inputs)])
        if seed in (0, 1, 2):
            weighting.end_epoch(LOGS)
    return results


def state(weighting):
    return [v.numpy() for v in weighting.variables]


def assert_same(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, **tolerance)


def test_every_name_of_these_kinds_has_a_row():
    named = {name for name in W.names() if W.get(name).requires in ("losses", "jacobian")}
    assert named == {name for name, *_ in ROWS}


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_finite_at_every_scale(name, options, _):
    for scale in (0.0, 1e-20, 1e-10, 1e5, 1e15):
        weighting = make(name, options)
        for result in run(weighting, scale=scale):
            assert all(np.all(np.isfinite(r)) for r in result), scale
        assert all(np.all(np.isfinite(s)) for s in state(weighting)), scale


@pytest.mark.parametrize(("name", "options", "_"), LOSS_ROWS, ids=LOSS_IDS)
def test_finite_for_losses_of_all_sizes_at_once(name, options, _):
    weighting = make(name, options)
    for values in itertools.product((0.0, 1e-30, 1.0, 1e30), (0.0, 1e30)):
        losses = tf.constant([*values, -1.0, 2.0])
        weights, _ = step(weighting, losses, losses[::-1], None, tf.constant(ONES))
        assert np.all(np.isfinite(weights))
    assert all(np.all(np.isfinite(s)) for s in state(weighting))


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_absent_tasks_have_no_weight_and_their_state_stays(name, options, _):
    weighting = make(name, options)
    run(weighting)
    weighting.end_epoch(LOGS)  # sums over an epoch start again
    absent = np.array([1, 0, 1, 0], "float32")
    before = state(weighting)
    for seed in (5, 6):
        inputs = [tf.constant(a) for a in arguments(weighting, seed=seed, present=absent)]
        weights, result = step(weighting, *inputs)
        assert np.all(np.array(weights)[absent == 0] == 0)
        assert np.all(np.isfinite(result))
    weighting.end_epoch(LOGS)
    for old, new in zip(before, state(weighting), strict=True):
        if old.ndim and old.shape[0] == K:
            np.testing.assert_array_equal(old[absent == 0], new[absent == 0])


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_no_task_at_all_is_finite(name, options, _):
    weighting = make(name, options)
    inputs = [tf.constant(a) for a in arguments(weighting, present=0 * ONES)]
    weights, result = step(weighting, *inputs)
    np.testing.assert_array_equal(weights, 0 * ONES)
    np.testing.assert_array_equal(result, np.zeros_like(result))


@pytest.mark.parametrize(
    ("name", "options", "_"), [r for r in ROWS if r[2]], ids=[i for i, r in zip(IDS, ROWS, strict=True) if r[2]]
)
def test_order_of_the_tasks_does_not_matter(name, options, _):
    order = np.array([2, 0, 3, 1])
    plain, permuted = make(name, options), make(name, options)
    logs = {f"t{k}_accuracy": LOGS[f"t{order[k]}_accuracy"] for k in range(K)}
    for seed in range(4):
        weights, result = step(plain, *map(tf.constant, arguments(plain, seed=seed)))
        weights_p, result_p = step(permuted, *map(tf.constant, arguments(permuted, seed=seed, order=order)))
        np.testing.assert_allclose(np.array(weights)[order], weights_p, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result, result_p, rtol=1e-3, atol=1e-5)
        plain.end_epoch(LOGS)
        permuted.end_epoch(logs)


@pytest.mark.parametrize(("name", "options", "_"), LOSS_ROWS, ids=LOSS_IDS)
def test_weights_are_the_objectives_derivative(name, options, _):
    weighting = make(name, options)
    run(weighting)
    present = tf.constant([1.0, 1.0, 0.0, 1.0])
    losses = tf.constant([0.5, 2.0, 0.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(losses)
        weights = weighting.task_weights(losses, present)
        value = weighting.objective(losses, weights, present)
    np.testing.assert_allclose(tape.gradient(value, losses), weights, rtol=1e-6)


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_config_and_state_round_trip(name, options, _):
    weighting = make(name, options)
    run(weighting)
    again = W.deserialize(W.serialize(weighting))
    assert type(again) is type(weighting)
    assert again.get_config() == weighting.get_config()
    assert again.second_forward == weighting.second_forward
    assert getattr(again, "sub_batches", 1) == getattr(weighting, "sub_batches", 1)
    again.set_tasks([f"t{k}" for k in range(K)], ["regression"] * K)
    assert again.built
    again.set_weights(weighting.get_weights())
    for a, b in zip(weighting.variables, again.variables, strict=True):
        b.assign(a)  # the state of a seed is not a weight
    assert_same(run(weighting), run(again))


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_reset_state_starts_again(name, options, _):
    weighting = make(name, options)
    first_state = state(weighting)
    first = run(weighting)
    weighting.reset_state()
    for a, b in zip(first_state, state(weighting), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_same(first, run(weighting))


@pytest.mark.parametrize(("name", "options", "_"), by_default(ONE_EACH, ROWS), ids=IDS)
def test_compiled_equals_eager_and_is_traced_once(name, options, _):
    eager, compiled = make(name, options), make(name, options)
    traces = []

    @tf.function(jit_compile=True, autograph=False)
    def fast(*inputs):
        traces.append(1)
        return step(compiled, *inputs)

    expected, results = run(eager), run(compiled, call=lambda _, *inputs: fast(*inputs))
    assert len(traces) == 1
    assert all(np.all(np.isfinite(r)) for result in results for r in result)
    if "seed" not in options:  # XLA has random number generators of its own
        assert_same(expected, results, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options", "_"), ROWS, ids=IDS)
def test_state_is_float32_under_mixed_precision(name, options, _):
    keras.config.set_dtype_policy("mixed_float16")
    weighting = make(name, options)
    assert {v.dtype for v in weighting.variables} <= {"float32", "uint32", "int32", "int64"}
    if weighting.requires == "losses":
        assert weighting([1e5] * K).dtype == "float32"
        assert np.all(np.isfinite(weighting([1e5] * K)))
