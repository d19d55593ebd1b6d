"""Saving, loading and going on, as if training had never stopped."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from tests.rows import by_default

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
PRICE = RNG.normal(size=20)
PRICE[::4] = np.nan
Y = {"price": PRICE, "kind": RNG.integers(0, 3, 20)}
WEIGHTINGS = ["equal", "uncertainty", "mgda"]
FIT = dict(batch_size=8, shuffle=False, verbose=0)


def compiled(weighting, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [
            layers.Dense(6, activation="tanh", kernel_regularizer="l2", name="fc"),
            # No dropout: Keras does not save the state of its seeds.
            [layers.BatchNormalization(name="norm"), layers.Activation("relu")],
            keras.Sequential([layers.Dense(5, activation="tanh", name="deep")], name="block"),
        ],
        {"price": layers.Dense(1, name="out"), "kind": layers.Dense(3, activation="softmax", name="out")},
        shared_depth=2,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"price": keras.losses.MeanSquaredError("mean_with_sample_weight"), "kind": "crossentropy"},
        loss_weights={"price": 2.0},
        metrics={"kind": ["accuracy"]},
        weighted_metrics={"price": [keras.metrics.MeanAbsoluteError(name="error")]},
        weighting=weighting,
        missing={"price": "nan"},
        run_eagerly=True,  # in graphs: tests/weighting/test_fit_contract.py
        **{"class_weight": {"kind": {0: 1.0, 1: 2.0}}, "sample_space": {}, **options},
    )
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [v.numpy() for v in variables]


def assert_same_state(a, b):
    for v, w in zip([*a.variables, *a.optimizer.variables], [*b.variables, *b.optimizer.variables], strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)


@pytest.mark.parametrize("weighting", by_default(["mgda"], WEIGHTINGS))
def test_save_load_and_fit_equal_an_uninterrupted_fit(weighting, tmp_path):
    model = compiled(weighting)
    model.fit(X, Y, **FIT)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, keras_mtl.MultiTaskModel)
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    assert_same_state(model, loaded)
    evaluated = loaded.evaluate(X, Y, verbose=0, return_dict=True)
    assert evaluated == model.evaluate(X, Y, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(
        2 * evaluated["price_loss"] + evaluated["kind_loss"] + float(sum(model.losses)), rel=1e-5
    )
    went_on, uninterrupted = (m.fit(X, Y, **FIT).history for m in (loaded, model))
    assert went_on == uninterrupted
    assert {"price_weight", "kind_weight", "price_error", "kind_accuracy", "loss"} <= set(went_on)
    assert_same_state(model, loaded)
    assert np.abs(state(model)[0] - compiled(weighting).variables[0].numpy()).max() > 0.01


def test_variables_are_named_after_their_owner_before_and_after_loading(tmp_path):
    model = compiled("equal")
    expected = {
        "shared/fc/kernel", "shared/fc/bias",
        "shared/norm/gamma", "shared/norm/beta", "shared/norm/moving_mean", "shared/norm/moving_variance",
        "price/block/deep/kernel", "price/block/deep/bias", "price/out/kernel", "price/out/bias",
        "kind/block/deep/kernel", "kind/block/deep/bias", "kind/out/kernel", "kind/out/bias",
    }  # fmt: skip
    assert {v.path for v in model.weights} == expected
    model.fit(X, Y, **FIT)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]


@pytest.mark.parametrize("weighting", by_default(["uncertainty"], ["uncertainty", "mgda"]))
def test_backup_and_restore_after_a_kill(weighting, tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    whole, killed, again = (compiled(weighting) for _ in range(3))
    history = whole.fit(X, Y, epochs=2, **FIT).history
    with pytest.raises(KeyboardInterrupt):
        killed.fit(X, Y, epochs=2, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Kill()], **FIT)
    resumed = again.fit(X, Y, epochs=2, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)], **FIT).history
    for name, values in resumed.items():
        np.testing.assert_allclose(values, history[name][1:], rtol=1e-6, err_msg=name)
    assert_same_state(whole, again)


def test_weights_alone_load_into_a_model_of_the_same_making(tmp_path):
    model = compiled("uncertainty")
    model.fit(X, Y, **FIT)
    model.save_weights(tmp_path / "m.weights.h5")
    other = compiled("uncertainty")
    other.fit(X, Y, **FIT)
    other.fit(X, Y, **FIT)
    other.load_weights(tmp_path / "m.weights.h5")
    for v, w in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)


def test_clone_model_has_its_own_weights_and_trains():
    model = compiled("equal")
    clone = keras.models.clone_model(model)
    assert isinstance(clone, keras_mtl.MultiTaskModel) and clone.tasks == model.tasks
    assert [v.path for v in clone.weights] == [v.path for v in model.weights]
    assert len(clone.shared_variables) == len(model.shared_variables) == 4
    clone.set_weights(model.get_weights())
    before = [v.numpy() for v in model.weights]
    out = model.predict(X, verbose=0)
    for task, p in clone.predict(X, verbose=0).items():
        np.testing.assert_array_equal(p, out[task])
    losses = {"price": "mse", "kind": "crossentropy"}
    clone.compile("sgd", loss=losses, weighting="mgda", missing="nan", run_eagerly=True)
    clone.fit(X, Y, **FIT)
    for v, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(v, old, err_msg=v.path)


def test_export_serves_one_task(tmp_path):
    import tensorflow as tf

    model = compiled("uncertainty")
    model.fit(X, Y, **FIT)
    model.task_model("kind").export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")  # its variables live as long as it does
    served = loaded.serve(tf.constant(X))
    np.testing.assert_allclose(served, model.predict(X, verbose=0)["kind"], rtol=1e-5, atol=1e-6)


def test_export_serves_all_tasks(tmp_path):
    import tensorflow as tf

    model = compiled("mgda")
    model.fit(X, Y, **FIT)
    model.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")  # its variables live as long as it does
    served = loaded.serve(tf.constant(X))
    for task, p in model.predict(X, verbose=0).items():
        np.testing.assert_allclose(served[task], p, rtol=1e-5, atol=1e-6)


def test_a_task_model_saves_and_loads_as_plain_keras(tmp_path):
    model = compiled("equal")
    model.task_model("price").save(tmp_path / "price.keras")
    loaded = keras.models.load_model(tmp_path / "price.keras")
    np.testing.assert_array_equal(loaded(X), model(X)["price"])


def test_a_model_that_was_never_compiled_saves_and_loads(tmp_path):
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], {"a": layers.Dense(1)})
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert not loaded.compiled and loaded.tasks == ("a",)
    loaded.compile("sgd", loss="mse", run_eagerly=True)
    loaded.fit(X, {"a": X[:, 0]}, verbose=0)


def test_class_weights_of_numpy_are_saved(tmp_path):
    labels, counts = np.unique(np.array([0, 0, 1]), return_counts=True)
    model = compiled("equal", class_weight={"kind": dict(zip(labels, 3 / (2 * counts), strict=True))})
    model.fit(X, Y, **FIT)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.compiled_tasks.task_losses.class_weight == {"kind": {0: 0.75, 1: 1.5}}


def test_every_option_of_compile_survives(tmp_path):
    model = compiled("mgda", gradients="last_shared", steps_per_execution=2, jit_compile=False)
    model.fit(X, Y, **FIT)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.compiled_tasks.gradients == "last_shared"
    assert loaded.compiled_tasks.task_losses.missing == {"price": "nan"}
    assert loaded.steps_per_execution == 2 and loaded.jit_compile is False
    assert loaded.compiled_tasks.task_losses.class_weight == {"kind": {0: 1.0, 1: 2.0}}
    assert loaded.compiled_tasks.static_weights.numpy().tolist() == [2.0, 1.0]
    assert loaded.compiled_tasks.task_losses.losses["price"].reduction == "mean_with_sample_weight"
