"""Random, dependent, stationary and badly scaled task gradients, and what each method weighs them by."""

import functools

import numpy as np
import tensorflow as tf

from keras_mtl import weighting as W

METHODS = {
    "mgda": lambda: W.MGDA(),
    "upgrad": lambda: W.UPGrad(),
    "dualproj": lambda: W.DualProj(),
    "cagrad": lambda: W.CAGrad(c=0.5),
    "cagrad_1": lambda: W.CAGrad(c=1.0),
    "cagrad_2": lambda: W.CAGrad(c=2.0),
    "imtl_g": lambda: W.IMTLG(),
    "config": lambda: W.ConFIG(),
    "aligned": lambda: W.AlignedMTL(),
    "aligned_median": lambda: W.AlignedMTL(scale_mode="median"),
    "aligned_rmse": lambda: W.AlignedMTL(scale_mode="rmse"),
    "nash": lambda: W.NashMTL(),
    "nash_free": lambda: W.NashMTL(max_norm=0),
    "fairgrad": lambda: W.FairGrad(alpha=1.0),
    "fairgrad_half": lambda: W.FairGrad(alpha=0.5),
    "fairgrad_2": lambda: W.FairGrad(alpha=2.0),
    "pcgrad": lambda: W.PCGrad(order="fixed"),
    "pcgrad_random": lambda: W.PCGrad(seed=1),
    "gradvac": lambda: W.GradVac(order="fixed"),
    "pcd": lambda: W.PCD(),
    "pcd_0": lambda: W.PCD(tau=0.0),
}
SCALES = [(1.0, 1.0, 1.0), (0.1, 1.0, 10.0), (0.01, 1.0, 100.0), (1e-5, 1.0, 1e5)]


@functools.cache
def compiled(method, size):
    """One traced solver per method and size, for all tests of a process."""
    weighting = METHODS[method]()
    weighting.build((size,))
    signature = [tf.TensorSpec((size, size), "float64"), tf.TensorSpec((size,), "float64")]
    return weighting, tf.function(weighting.solve, input_signature=signature, autograph=False)


def solve(method, jacobian, present=None):
    jacobian = np.asarray(jacobian, "float64")
    gramian = jacobian @ jacobian.T
    present = np.ones(len(jacobian)) if present is None else np.asarray(present, "float64")
    if len(jacobian) < 5:
        # Not worth tracing for.
        return METHODS[method]().solve(gramian, present).numpy()
    weighting, function = compiled(method, len(jacobian))
    weighting.reset_state()
    return function(gramian, present).numpy()


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_left_null(rng, size, parameters, rank, null):
    """A matrix of the given rank whose rows, weighted by `null`, sum to zero."""
    basis = np.linalg.qr(np.column_stack([null, rng.standard_normal((size, rank))]))[0][:, 1:]
    return basis @ np.diag(rng.uniform(0.5, 2.0, rank)) @ orthonormal(rng, parameters, rank).T


def normal(rng, size):
    return rng.standard_normal((size, 3 * size + 5))


def conflicting(rng, size):
    jacobian = normal(rng, size)
    return jacobian - 0.9 * jacobian.mean(axis=0)


def low_rank(rng, size):
    return rng.standard_normal((size, max(size // 2, 1))) @ rng.standard_normal((max(size // 2, 1), 12))


def few_parameters(rng, size):
    return rng.standard_normal((size, 2))


def strongly_stationary(rng, size):
    return with_left_null(rng, size, size + 4, max(size // 2, 1), rng.uniform(0.5, 1.5, size))


def weakly_stationary(rng, size):
    null = rng.uniform(0.5, 1.5, size) * (np.arange(size) < max(2, size // 2))
    return with_left_null(rng, size, size + 4, max(size // 2, 1), null)


def badly_scaled(rng, size):
    return conflicting(rng, size) * np.resize([0.01, 1.0, 100.0], size)[:, None]


SAMPLERS = [normal, conflicting, low_rank, few_parameters, strongly_stationary, weakly_stationary, badly_scaled]


def matrices(sampler, sizes=(5,), draws=4):
    for size in sizes:
        for seed in range(draws):
            yield sampler(np.random.default_rng(100 * size + seed), size)
