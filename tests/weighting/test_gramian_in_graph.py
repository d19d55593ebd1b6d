"""Gramian weightings inside compiled functions, and as saved objects."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import weighting as W

METHODS = {
    "mgda": lambda: W.MGDA(normalize="norm"),
    "upgrad": lambda: W.UPGrad(reduction="sum"),
    "dualproj": lambda: W.DualProj(every=2),
    "cagrad": lambda: W.CAGrad(c=0.4, rescale=True),
    "imtl_g": lambda: W.IMTLG(),
    "config": lambda: W.ConFIG(),
    "aligned": lambda: W.AlignedMTL(scale_mode="rmse"),
    "nash": lambda: W.NashMTL(max_norm=0.0),
    "fairgrad": lambda: W.FairGrad(alpha=2.0),
    "pcgrad": lambda: W.PCGrad(order="fixed", seed=3),
    "gradvac": lambda: W.GradVac(beta=0.3, order="fixed", seed=4),
    "pcd": lambda: W.PCD(tau=0.1, beta=0.5),
    "gradnorm": lambda: W.GradNorm(alpha=0.5, initial_losses=[1.0, 2.0, 3.0]),
}


def gramians(count=3):
    for seed in range(count):
        rows = np.random.default_rng(seed).standard_normal((3, 8))
        rows = (rows - 0.9 * rows.mean(axis=0)) * [[0.1], [1.0], [10.0]]
        yield tf.constant(rows @ rows.T)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_equals_eager_without_retracing(method):
    eager, compiled = METHODS[method](), METHODS[method]()
    eager.build((3,))
    compiled.build((3,))
    function = tf.function(compiled.solve, jit_compile=True, autograph=False)
    for gramian in gramians():
        for present in ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0]):
            present = tf.constant(present)
            np.testing.assert_allclose(function(gramian, present), eager.solve(gramian, present), rtol=1e-6, atol=1e-9)
    assert function.experimental_get_tracing_count() == 1
    for ours, theirs in zip(compiled.variables, eager.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_a_training_step(method):
    weighting = METHODS[method]()
    weighting.build((3,))
    losses, present = tf.constant([0.5, 1.0, 2.0]), tf.constant([1.0, 1.0, 0.0])
    gramian = tf.cast(next(gramians()), "float32")
    weights = weighting.task_weights(losses, present, gramian)  # traced by `fit` in test_fit_contract.py
    weighting.update(losses, present, weights, gramian)
    weights = weights.numpy()
    assert weights.dtype == np.float32
    assert np.all(np.isfinite(weights)) and weights[2] == 0 and np.any(weights != 0)
    if weighting.reduction == "sum":
        np.testing.assert_allclose(np.abs(weights).sum(), 2.0, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_config_round_trip(method):
    weighting = METHODS[method]()
    copy = W.deserialize(W.serialize(weighting))
    assert type(copy).__name__ == type(weighting).__name__
    assert copy.get_config() == weighting.get_config()
    assert type(W.get(method)).__name__ == type(weighting).__name__


@pytest.mark.parametrize("method", ["nash", "gradvac", "gradnorm"])
def test_reset_state(method):
    weighting = METHODS[method]()
    weighting.build((3,))
    first = [variable.numpy() for variable in weighting.variables]
    ones = tf.ones(3)
    for gramian in gramians():
        weighting.update(ones, ones, weighting.task_weights(ones, ones, gramian), gramian)
    assert any(np.any(a != b) for a, b in zip(first, weighting.variables, strict=True))
    weighting.reset_state()
    for before, after in zip(first, weighting.variables, strict=True):
        np.testing.assert_array_equal(before, after)


def test_random_orders_compile():
    # Compiled functions draw other numbers, so only what holds for every order can be tested.
    weighting = W.PCGrad(seed=0)
    function = tf.function(weighting.solve, jit_compile=True, autograph=False)
    gramian = tf.constant([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.2], [-0.5, -0.2, 1.0]])
    draws = np.array([function(gramian) for _ in range(8)])
    assert np.all(draws >= 1) and np.ptp(draws, axis=0).max() > 0.01
    assert function.experimental_get_tracing_count() == 1


def test_no_gradient_flows_through_the_weights():
    gramian = tf.Variable(next(gramians()))
    for method in ("cagrad", "aligned", "pcgrad", "fairgrad"):
        with tf.GradientTape() as tape:
            weights = METHODS[method]().solve(gramian)
        assert tape.gradient(weights, gramian) is None
