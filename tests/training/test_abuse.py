"""Numbers that nobody should have: every weighting gives finite steps on them, or says what is wrong."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl import weighting as W
from tests.rows import by_default

# Options that make a method repeatable.
SEEDED = {"graddrop": {"seed": 0}, "gradvac": {"seed": 0}, "pcgrad": {"seed": 0}, "random": {"seed": 0}}
# The direction of their step does not change when all losses are multiplied by one number.
HOMOGENEOUS = (
    "equal", "mgda", "pcgrad", "gradvac", "cagrad", "imtl_g", "nash", "aligned", "fairgrad", "upgrad", "dualproj",
    "config", "graddrop",
)  # fmt: skip
ALL = by_default(("uncertainty", "nash", "graddrop"), W.names())
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
Y = {task: RNG.normal(size=(6, 1)).astype("float32") for task in ("a", "b")}
Y["twin"] = Y["a"]
HUGE, TINY = 1e30, 1e-30


class Abused:
    """A model with two tasks that are one and the same, put back after every step."""

    def __init__(self, name):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        shared = layers.Dense(5, activation="tanh")(layers.Dense(6, activation="tanh")(inputs))
        same = layers.Dense(1)(shared)
        self.model = keras_mtl.MultiTaskModel(inputs, {"a": same, "twin": same, "b": layers.Dense(1)(shared)})
        weighting = type(W.get(name))(**SEEDED.get(name, {}))
        metrics = {task: ["mae"] for task in Y} if name == "dtp" else None
        self.model.compile(
            keras.optimizers.SGD(1e-3), "mse", weighting=weighting, missing="nan", metrics=metrics, run_eagerly=True
        )
        self.start = [v.numpy() for v in self.model.variables]

    def step(self, x, y, scales=(1.0, 1.0, 1.0)):
        """Where one step takes the shared variables, in one vector."""
        for variable, value in zip(self.model.variables, self.start, strict=True):
            variable.assign(value)
        self.model.set_task_weights(dict(zip(("a", "twin", "b"), scales, strict=True)))
        self.model.reset_metrics()
        logs = self.model.train_on_batch(x, y, return_dict=True)
        assert all(np.isfinite(value).all() for name, value in logs.items() if name.endswith("_weight")), logs
        for variable in (*self.model.variables, *self.model.optimizer.variables):
            assert np.isfinite(variable.numpy()).all(), variable.path
        moved = [v.numpy() - w for v, w in zip(self.model.variables, self.start, strict=True) if v.trainable]
        return np.concatenate([m.ravel().astype("float64") for m in moved[:4]])

    def step_or_none(self, *args):
        """The same, where an error may say that numbers of this size cannot be; nothing has changed then."""
        try:
            return self.step(*args)
        except FloatingPointError:
            for variable, value in zip(self.model.variables, self.start, strict=True):
                if "seed" not in variable.path and "static" not in variable.path:
                    np.testing.assert_array_equal(variable, value, err_msg=variable.path)
            return None


def only(part, **missing):
    labels = {task: y[part].copy() for task, y in Y.items()}
    for task in missing:
        labels[task][:] = np.nan
    return X[part], labels


@pytest.mark.parametrize("name", ALL)
def test_steps_are_finite(name):
    abused = Abused(name)
    whole, one = slice(None), slice(0, 1)
    plain = abused.step(*only(whole))
    assert np.linalg.norm(plain) > 0
    assert np.linalg.norm(abused.step(*only(one))) > 0
    for missing in ({"b": 1}, {"a": 1, "twin": 1}, {"a": 1, "twin": 1, "b": 1}):
        moved = abused.step(*only(whole, **missing))
        if len(missing) == 3:
            assert np.abs(moved).max() == 0
    for scales in ((TINY,) * 3, (1.0, 1.0, TINY)):
        assert np.linalg.norm(abused.step(*only(whole), scales)) > 0
    huge = abused.step_or_none(*only(whole), (HUGE,) * 3)
    if name in HOMOGENEOUS:
        np.testing.assert_allclose(huge / np.linalg.norm(huge), plain / np.linalg.norm(plain), atol=2e-3)
    abused.step_or_none(*only(whole), (HUGE, HUGE, TINY))


@pytest.mark.parametrize("scale", [TINY, pytest.param(1e-18, marks=pytest.mark.slow), HUGE])
def test_the_gramian_neither_overflows_nor_vanishes(scale):
    """The same weights as at scale 1, from squares that no float32 holds."""
    expected, found = {}, {}
    for into, factor in ((expected, 1.0), (found, scale)):
        abused = Abused("mgda")
        abused.step(*only(slice(None)), (factor,) * 3)
        into.update(abused.model.get_metrics_result())
    for log in ("a_weight", "b_weight", "grad_cosine"):
        weight = 1.0 if log == "grad_cosine" else scale  # static and dynamic weights are logged together
        assert float(found[log]) / weight == pytest.approx(float(expected[log]), rel=1e-4), log
    assert float(found["b_grad_norm"]) == pytest.approx(scale * float(expected["b_grad_norm"]), rel=1e-4)


def test_parts_of_a_batch_that_is_too_small_for_them():
    """MoDo takes three parts: of one example, all get that one, and batch normalization never an empty one."""
    keras.utils.set_random_seed(0)
    trunk = [layers.Dense(4), layers.BatchNormalization()]
    model = keras_mtl.hard_sharing(keras.Input((4,)), [trunk], {task: layers.Dense(1) for task in Y})
    model.compile(keras.optimizers.SGD(0.1), "mse", weighting="modo", run_eagerly=True)
    for size in (1, 2):
        before = model.get_weights()
        model.train_on_batch(X[:size], {task: y[:size] for task, y in Y.items()})
        assert all(np.isfinite(w).all() for w in model.get_weights())
        assert any(np.any(v != w) for v, w in zip(model.get_weights(), before, strict=True))


MANY = 128


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in W.names() if name != "dtp"])
def test_128_tasks(name):
    """Eagerly; tracing them is timed in recipes/benchmarks/scale.py."""
    names = [f"t{i}" for i in range(MANY)]
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), [layers.Dense(8, activation="tanh")], {task: layers.Dense(1) for task in names}
    )
    model.compile(keras.optimizers.SGD(1e-3), "mse", weighting=name, run_eagerly=True)
    labels = {task: np.roll(Y["b"], i) for i, task in enumerate(names)}
    before = model.shared_variables[0].numpy()
    logs = model.train_on_batch(X, labels, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    assert np.abs(model.shared_variables[0].numpy() - before).max() > 0
