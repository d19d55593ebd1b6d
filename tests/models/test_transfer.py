"""Pretrained trunks: levels, rates that fall towards the inputs, and layers that are released one after the other."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.callbacks import GradualUnfreezing
from keras_mtl.models._layer_order import levels_of
from tests.rows import by_default

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = {"a": X[:, :1], "b": X[:, 1:2]}


def build(depth=None, norm=False):
    keras.utils.set_random_seed(0)
    middle = (
        [layers.Dense(5, name="mid"), layers.BatchNormalization(name="norm")] if norm else layers.Dense(5, name="mid")
    )
    return keras_mtl.hard_sharing(
        keras.Input((4,)),
        [layers.Dense(6, activation="tanh", name="low"), middle],
        {"a": layers.Dense(1, name="out"), "b": [layers.Dense(3, name="hidden"), layers.Dense(1, name="out")]},
        shared_depth=depth,
    )


def fit(model, **options):
    return model.fit(X, Y, **{"batch_size": 12, "verbose": 0, **options})


def values(model):
    return {v.path: v.numpy() for v in model.variables if "seed" not in v.path}


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (None, [["shared_low"], ["shared_mid"], ["a", "b"]]),
        (1, [["shared_low"], ["a_mid", "b_mid"], ["a", "b"]]),
        (0, [["a_low", "b_low"], ["a_mid", "b_mid"], ["a", "b"]]),
    ],
)
def test_levels_go_from_the_inputs_to_the_heads(depth, expected):
    assert [[layer.name for layer in level] for level in levels_of(build(depth))] == expected


def test_heads_are_the_last_level_wherever_they_stand():
    inputs = keras.Input((4,))
    low = layers.Dense(3, name="low")(inputs)
    high = layers.Activation("relu")(layers.Dense(3, name="high")(low))
    model = keras_mtl.MultiTaskModel(
        inputs, {"a": layers.Dense(1, name="a")(low), "b": layers.Dense(1, name="b")(high)}
    )
    names = [[layer.name for layer in level] for level in levels_of(model)]
    assert [sorted(level) for level in names] == [["low"], ["high"], ["a", "b"]]


@pytest.mark.oracle
def test_rates_fall_by_the_factor():
    """Steps of SGD are the rate times the gradient: against a model with one rate."""
    plain, model = build(), build()
    plain.compile(keras.optimizers.SGD(1.0), loss="mse", run_eagerly=True)
    rates = keras_mtl.models.discriminative_rates(model, keras.optimizers.SGD(0.08), factor=0.5)
    model.compile(rates, loss="mse", run_eagerly=True)
    before = values(plain)
    fit(plain), fit(model)
    expected = {"shared/low": 0.02, "shared/mid": 0.04, "a/": 0.08, "b/": 0.08}
    for path, old in before.items():
        rate = next(rate for start, rate in expected.items() if path.startswith(start))
        step, of_one = values(model)[path] - old, values(plain)[path] - old
        assert np.abs(of_one).max() > 0
        np.testing.assert_allclose(step, rate * of_one, rtol=1e-3, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("rate", [1e-2, keras.optimizers.schedules.ExponentialDecay(1e-2, 2, 0.5)])
def test_rates_and_schedules_survive_save_and_load(rate, tmp_path):
    model = build()
    optimizer = keras_mtl.models.discriminative_rates(model, keras.optimizers.Adam(rate))
    model.compile(optimizer, loss="mse", weighting="uncertainty", run_eagerly=True)
    fit(model, epochs=2)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    now = [float(one.learning_rate) for one in model.optimizer.optimizers]
    np.testing.assert_allclose([float(one.learning_rate) for one in loaded.optimizer.optimizers], now)
    np.testing.assert_allclose(now, now[-1] / np.array([2.6**2, 2.6, 1.0]), rtol=1e-5)
    assert fit(model).history == fit(loaded).history


def test_a_pretrained_backbone_keeps_its_weights_and_its_levels():
    backbone = keras.Sequential([keras.Input((4,)), layers.Dense(6, name="one"), layers.Dense(5, name="two")])
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), keras_mtl.stages_of(backbone, cuts=["one"]), {"a": layers.Dense(1), "b": layers.Dense(1)}
    )
    for v, w in zip(model.shared_variables, backbone.trainable_variables, strict=True):
        np.testing.assert_array_equal(v, w)
    optimizer = keras_mtl.models.discriminative_rates(model, keras.optimizers.SGD(0.1), factor=0.1)
    model.compile(optimizer, loss="mse", run_eagerly=True)
    before = values(model)
    fit(model)
    moved = {path: np.abs(values(model)[path] - old).max() for path, old in before.items()}
    assert all(size > 0 for size in moved.values())
    np.testing.assert_allclose(
        [float(one.learning_rate) for one in optimizer.optimizers], [0.001, 0.01, 0.1], rtol=1e-6
    )


class Moves(keras.callbacks.Callback):
    """The owners and stages whose variables changed in each epoch, statistics included."""

    def on_train_begin(self, logs=None):
        self.moved, self.before = [], values(self.model)

    def on_epoch_end(self, epoch, logs=None):
        now = values(self.model)
        self.moved.append({path.rsplit("/", 2)[-2] for path in now if not np.array_equal(now[path], self.before[path])})
        self.before = now


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_levels_are_released_from_the_heads_down(weighting):
    if weighting == "mgda":
        with pytest.raises(ValueError, match="needs trainable variables that two tasks or more share"):
            frozen_fit("mgda", keras.optimizers.Adam(0.01))
        return
    moves = frozen_fit("equal", keras.optimizers.Adam(0.01))
    heads = {"out", "hidden"}
    assert moves == [heads, heads, heads | {"mid", "norm"}, heads | {"mid", "norm"}, heads | {"mid", "norm", "low"}]


def frozen_fit(weighting, optimizer):
    model, moves = build(norm=True), Moves()
    model.compile(optimizer, loss="mse", weighting=weighting)
    fit(model, epochs=5, callbacks=[GradualUnfreezing(every=2), moves])
    return moves.moved


def test_a_weighting_on_gradients_may_go_with_a_level_released_at_once():
    model, moves = build(norm=True), Moves()
    model.compile("adam", loss="mse", weighting="mgda", run_eagerly=True)
    fit(model, epochs=2, callbacks=[GradualUnfreezing(first=0), moves])
    assert "mid" in moves.moved[0] and "low" not in moves.moved[0] and "low" in moves.moved[1]


@pytest.mark.parametrize("kind", by_default([keras.optimizers.Adam], [keras.optimizers.Adam, keras.optimizers.AdamW]))
def test_release_goes_with_rates_of_their_own(kind):
    """Frozen levels stay bit for bit, whatever weight decay would make of them."""
    model, moves = build(norm=True), Moves()
    model.compile(keras_mtl.models.discriminative_rates(model, kind(0.01)), loss="mse", run_eagerly=True)
    fit(model, epochs=3, callbacks=[GradualUnfreezing(), moves])
    heads = {"out", "hidden"}
    assert moves.moved == [heads, heads | {"mid", "norm"}, heads | {"mid", "norm", "low"}]
    again = Moves()  # with momentum in the optimizer from before
    fit(model, epochs=1, callbacks=[GradualUnfreezing(), again])
    assert again.moved == [heads]


def test_first_and_every():
    callback = GradualUnfreezing(every=2, first=1)
    assert [callback.released(epoch) for epoch in range(6)] == [0, 1, 1, 2, 2, 3]
    assert [GradualUnfreezing(every=3).released(epoch) for epoch in (0, 2, 3, 6)] == [0, 0, 1, 2]


def test_layers_frozen_before_stay_frozen():
    model, moves = build(), Moves()
    model.get_layer("shared_low").trainable = False
    model.compile("adam", loss="mse", run_eagerly=True)
    fit(model, epochs=3, callbacks=[GradualUnfreezing(), moves])
    assert not any("low" in moved for moved in moves.moved) and "mid" in moves.moved[1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GradualUnfreezing(every=0), r"`every` should be an integer of at least 1. Received: every=0"),
        (lambda: GradualUnfreezing(first=-1), r"`first` should be an integer of at least 0. Received: first=-1"),
        (lambda: keras_mtl.models.discriminative_rates(build(), "sgd", factor=0.0), r"`factor` should be above 0"),
    ],
)
def test_bad_options_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_model_of_heads_alone_has_nothing_to_release():
    inputs = keras.Input((4,))
    model = keras_mtl.MultiTaskModel(inputs, {task: layers.Dense(1, name=task)(inputs) for task in "ab"})
    model.compile("sgd", loss="mse")
    with pytest.raises(
        ValueError, match=r"should have levels below its heads to release. Received: one level of \['a'"
    ):
        fit(model, callbacks=[GradualUnfreezing()])
