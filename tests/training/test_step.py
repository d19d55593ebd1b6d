"""The order of a training step, and what becomes of one that is not finite where a branch would cost a wait."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.training.backends import core

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = {"a": X[:, :1] + 1.0, "b": X[:, 1:2] * 2.0}
BAD = {"a": Y["a"], "b": np.where(np.arange(12)[:, None] == 5, np.inf, Y["b"]).astype("float32")}


def make(weighting="equal", head=None, eager=True, **options):
    keras.utils.set_random_seed(0)
    heads = {"a": layers.Dense(1), "b": head or layers.Dense(1)}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3, activation="tanh")], heads)
    model.compile(keras.optimizers.Adam(0.05), loss="mse", weighting=weighting, run_eagerly=eager, **options)
    return model


class Sees:
    """Keeps how many steps the optimizer has made whenever the state moves."""

    def update(self, losses, present, weights, gramian=None):
        del losses, present, weights
        self.steps = [*getattr(self, "steps", []), int(self._owner().optimizer.iterations)]
        self.had_gramian = gramian is not None


class OnLosses(Sees, keras_mtl.weighting.Weighting):
    def task_weights(self, losses, present, gramian=None):
        return present


class OnGramian(Sees, keras_mtl.weighting.GramianWeighting):
    def solve(self, gramian, present=None):
        return keras.ops.ones_like(keras.ops.diagonal(gramian)) * present


@pytest.mark.parametrize(
    ("weighting", "steps"),
    [(OnLosses, [1, 2, 3]), (OnGramian, [1, 2, 3]), (lambda: OnGramian(every=2), [1, 3])],
    ids=["losses", "gramian", "every"],
)
def test_state_moves_after_the_optimizers_step(weighting, steps):
    model = make(weighting())
    model.fit(X, Y, batch_size=4, verbose=0)
    assert model.weighting.steps == steps
    assert model.weighting.had_gramian == isinstance(model.weighting, OnGramian)


def test_multipliers_of_penalties_move_after_the_optimizers_step():
    seen = []

    class Bound(keras_mtl.fairness.ParityPenalty):
        def update(self, value, known):
            seen.append(int(model.optimizer.iterations))
            super().update(value, known)

    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), [layers.Dense(3)], {"a": layers.Dense(1, activation="sigmoid"), "b": layers.Dense(1)}
    )
    model.compile(
        "adam",
        loss={"a": "binary_crossentropy", "b": "mse"},
        weighting="mgda",
        penalties={"a": [Bound("group", bound=0.01)]},
        run_eagerly=True,
    )
    group = (np.arange(12) % 2)[:, None].astype("float32")
    model.fit(X, {"a": (X[:, :1] > 0).astype("float32"), "b": Y["b"], "group": group}, batch_size=4, verbose=0)
    assert seen == [1, 2, 3]


class Blows(OnGramian):
    """Its state is not finite after the second step."""

    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_state("count", (), 1.0)

    def update(self, losses, present, weights, gramian=None):
        super().update(losses, present, weights, gramian)
        self.count.assign(keras.ops.where(self.count > 1, np.inf, self.count + 1.0))


def test_state_that_is_not_finite_is_not_kept():
    model = make(Blows())
    with pytest.raises(FloatingPointError, match="the gradients or the weighting's state, from finite losses"):
        model.fit(X, Y, batch_size=4, verbose=0)
    assert float(model.weighting.count) == 2.0
    assert all(np.isfinite(w).all() for w in model.get_weights())


# Where a branch would cost a wait, as on a GPU without XLA


@pytest.fixture
def branches_cost(monkeypatch):
    monkeypatch.setattr(core, "branches_are_free", lambda model: False)


def branches_in(model):
    """Number of operations of a traced step for which the host would have to know a value."""
    model.build_optimizer()
    step = tf.function(model.train_step, autograph=False).get_concrete_function(
        (X[:4], {t: y[:4] for t, y in Y.items()})
    )
    return sum(op.type in ("If", "StatelessIf", "While", "StatelessWhile") for op in step.graph.get_operations())


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "mgda"])
def test_a_step_has_no_branch_by_default(weighting, branches_cost):
    assert branches_in(make(weighting, eager=False)) == 0
    assert branches_in(make(weighting, eager=False, on_nonfinite="skip_step")) == 1


@pytest.mark.parametrize("weighting", ["uncertainty", "mgda", "dbmtl"])
def test_without_a_branch_steps_are_the_same(weighting, monkeypatch):
    weights = []
    for free in (True, False):
        monkeypatch.setattr(core, "branches_are_free", lambda model, free=free: free)
        model = make(weighting)
        logs = model.fit(X, Y, batch_size=4, verbose=0).history
        weights.append([*model.get_weights(), *(np.array(logs[name]) for name in sorted(logs))])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_without_a_branch_the_first_task_is_named(weighting, branches_cost):
    with pytest.raises(
        FloatingPointError, match=r"NaN or infinity in the loss of \['b'\]\. Training went on until now"
    ):
        make(weighting).fit(X, BAD, batch_size=4, shuffle=False, verbose=0)


class Root(layers.Layer):
    """Finite, with an infinite slope at 0."""

    def call(self, x):
        return keras.ops.sqrt(0.0 * x[:, :1])


def test_without_a_branch_the_last_step_is_looked_at_too(branches_cost):
    """Its gradients are not finite though its losses are, and no later step would tell."""
    with pytest.raises(FloatingPointError, match=r"NaN or infinity in the variables \['shared/"):
        make(head=Root()).fit(X, Y, batch_size=12, verbose=0)


@pytest.mark.parametrize("on_nonfinite", ["skip_step", "skip_task"])
def test_who_asks_for_all_or_nothing_gets_it(on_nonfinite, branches_cost):
    model = make("mgda", on_nonfinite=on_nonfinite)
    with pytest.warns(UserWarning, match="'b' was NaN or infinite"):
        logs = model.fit(X, BAD, batch_size=4, shuffle=False, verbose=0).history
    assert logs["skipped_steps"] == [1.0 if on_nonfinite == "skip_step" else 0.0]
    assert all(np.isfinite(w).all() for w in model.get_weights())
