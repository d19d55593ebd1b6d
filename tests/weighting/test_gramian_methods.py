"""What single methods do at the limits of their options, where they cancel, and from call to call."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mtl import weighting as W
from tests.weighting.task_gradients import METHODS, conflicting, solve, strongly_stationary


@pytest.mark.parametrize("scale_mode", ["min", "median"])
def test_aligned_bears_a_solver_that_loses_the_smallest_eigenvalues(scale_mode, monkeypatch):
    """As cuSOLVER does on a GPU: what is left of them there is an error of either sign."""

    def lossy(matrix):
        values, vectors = np.linalg.eigh(matrix)
        values = np.where(values < 1e-12 * values[-1], -1e-17, values)
        return ops.convert_to_tensor(values), ops.convert_to_tensor(vectors)

    jacobian = np.array([1e-10, 1e-8, 1e10, 1.0, 1e-9])[:, None] * conflicting(np.random.default_rng(1), 5)
    with monkeypatch.context() as patch:
        patch.setattr(ops, "eigh", lossy)
        weights = np.array(W.AlignedMTL(scale_mode=scale_mode).solve(jacobian @ jacobian.T))
    assert np.all(np.isfinite(weights)) and np.any(weights != 0)


def test_limits_of_cagrad_and_fairgrad():
    jacobian = conflicting(np.random.default_rng(0), 4)
    gramian = jacobian @ jacobian.T
    np.testing.assert_allclose(W.CAGrad(c=0).solve(gramian), 0.25)
    np.testing.assert_allclose(W.FairGrad(alpha=0).solve(gramian), 0.25)
    far = W.CAGrad(c=1e4).solve(gramian).numpy()
    np.testing.assert_allclose(far / far.sum(), W.MGDA().solve(gramian), atol=1e-3)
    plain, rescaled = W.CAGrad(c=0.5).solve(gramian), W.CAGrad(c=0.5, rescale=True).solve(gramian)
    np.testing.assert_allclose(rescaled, plain / 1.25)


def test_nash_falls_back_to_the_last_weights():
    row = np.random.default_rng(0).standard_normal(5)
    opposite, other = np.stack([row, -row]), np.random.default_rng(1).standard_normal((2, 5))
    weighting = W.NashMTL(max_norm=0)
    np.testing.assert_allclose(weighting.solve(opposite @ opposite.T), 1.0)
    last = weighting.solve(other @ other.T).numpy()
    assert float(weighting.fallbacks) == 1
    np.testing.assert_allclose(weighting.solve(opposite @ opposite.T), last, rtol=1e-6)
    assert float(weighting.fallbacks) == 2
    np.testing.assert_allclose(weighting.solve(other @ other.T, np.array([1.0, 0.0]))[1], 0.0)
    np.testing.assert_allclose(weighting.previous_weights[1], last[1], rtol=1e-6)
    weighting.reset_state()
    assert float(weighting.fallbacks) == 0


def test_stationary_gradients_give_no_direction():
    jacobian = strongly_stationary(np.random.default_rng(0), 5)
    for method in ("cagrad_2", "fairgrad", "fairgrad_2"):
        assert np.all(solve(method, jacobian) == 0)


def test_gradvac_targets_follow_the_cosines():
    jacobian = np.array([[1.0, 0.0], [0.6, 0.8]])
    weighting = W.GradVac(beta=0.5, order="fixed")
    np.testing.assert_allclose(weighting.solve(jacobian @ jacobian.T), [1.0, 1.0])
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.3], [0.3, 0.0]], rtol=1e-6)
    # Orthogonal gradients are pulled to the cosine 0.3, as tan says: 0.3 / sqrt(1 - 0.09).
    pull = 0.3 / np.sqrt(0.91)
    np.testing.assert_allclose(weighting.solve(np.eye(2)), [1 + pull, 1 + pull], rtol=1e-6)
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.15], [0.15, 0.0]], rtol=1e-6)
    weighting.solve(np.eye(2), np.array([1.0, 0.0]))
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.15], [0.15, 0.0]], rtol=1e-6)


def test_random_orders_differ_between_calls_and_repeat_with_the_seed():
    jacobian = conflicting(np.random.default_rng(4), 5)
    gramian = jacobian @ jacobian.T
    first, again = W.PCGrad(seed=3), W.PCGrad(seed=3)
    draws = [first.solve(gramian).numpy() for _ in range(3)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    np.testing.assert_array_equal(draws, [again.solve(gramian).numpy() for _ in range(3)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: W.CAGrad(c=-1), "`c` should be a finite number, at least 0"),
        (lambda: W.FairGrad(alpha=-1), "`alpha` should be a finite number, at least 0. Received: alpha=-1"),
        (lambda: W.NashMTL(max_norm=-1), "`max_norm` should be a finite number, at least 0"),
        (lambda: W.AlignedMTL(scale_mode="max"), "`scale_mode` should be one of"),
        (lambda: W.PCGrad(order="sorted"), "`order` should be one of"),
        (lambda: W.GradVac(order="sorted"), "`order` should be one of"),
        (lambda: W.GradVac(beta=2), "`beta` should be a finite number, at least 0 and at most 1"),
    ],
)
def test_options_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("method", METHODS)
def test_solvers_refuse_other_backends_by_name(method, monkeypatch):
    weighting = METHODS[method]()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    says = rf"`{type(weighting).__name__}.solve` should run on.* 'tensorflow' or 'jax'.* Received: backend 'torch'"
    for call in (weighting.solve, lambda gramian: weighting(np.ones(2, "float32"), gramian=gramian)):
        with pytest.raises(NotImplementedError, match=says):
            call(np.eye(2))


def test_imtl_g_on_dependent_gradients_has_the_nearest_projections_to_equal_ones():
    jacobian = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])  # the third is a sum
    unit = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
    projections = unit @ (np.array(W.IMTLG().solve(jacobian @ jacobian.T)) @ jacobian)
    vectors, values, _ = np.linalg.svd(unit, full_matrices=False)
    basis = vectors[:, values > 1e-10]  # of the range of the cosines
    nearest = basis @ basis.T @ np.ones(4)
    np.testing.assert_allclose(projections / projections[3], nearest / nearest[3], rtol=1e-6)
    assert np.ptp(nearest) > 0.1


def test_a_config_names_the_options_that_the_class_takes_and_no_other():
    class Plain(W.GramianWeighting):
        pass

    class Few(W.GramianWeighting):
        def __init__(self, strength=2.0, every=1, name=None):
            super().__init__(every=every, name=name)
            self.strength = strength

        def get_config(self):
            return {**super().get_config(), "strength": self.strength}

    class HandedOn(Few):
        def __init__(self, extra=0, **kwargs):
            super().__init__(**kwargs)
            self.extra = extra

        def get_config(self):
            return {**super().get_config(), "extra": self.extra}

    assert set(Plain().get_config()) == {"name", "reduction", "normalize", "every", "smoothing"}
    own = {"alpha", "learning_rate", "relative", "initial_losses"}
    assert set(W.GradNorm().get_config()) == {"name", "reduction", "every"} | own
    again = HandedOn.from_config(HandedOn(extra=1, strength=3.0, every=4).get_config())
    assert again.get_config().items() >= {"extra": 1, "strength": 3.0, "every": 4}.items()
    assert "normalize" not in again.get_config()


@pytest.mark.parametrize("method", METHODS)
def test_every_config_makes_the_same_weighting_again(method):
    weighting = METHODS[method]()
    assert type(weighting).from_config(weighting.get_config()).get_config() == weighting.get_config()
