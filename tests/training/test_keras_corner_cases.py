"""What plain Keras 3.15 gets wrong, or refuses, with several outputs: each case once, with numbers from NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl

X = np.arange(24, dtype="float32").reshape(8, 3) / 10
YA = np.array([1, -1, 2, 0, 3, 5, -2, 4], "float32")
YB = np.array([0, 1, 1, 0, 1, 0, 0, 1], "float32")
WA, WB = np.array([0.5, -0.2, 0.3], "float32"), np.array([0.1, 0.4, -0.3], "float32")


def linear_model(**options):
    """Task a is `x @ WA`, task b `sigmoid(x @ WB)`; the learning rate 0 keeps it so."""
    inputs = keras.Input((3,))
    x = layers.Dense(3, use_bias=False, kernel_initializer="identity", name="trunk")(inputs)
    outputs = {
        "a": layers.Dense(1, use_bias=False, name="a")(x),
        "b": layers.Dense(1, use_bias=False, activation="sigmoid", name="b")(x),
    }
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    model.set_weights([np.eye(3), WA[:, None], WB[:, None]])
    options = {"optimizer": keras.optimizers.SGD(0.0), "loss": {"a": "mse", "b": "binary_crossentropy"}, **options}
    options.setdefault("run_eagerly", True)
    model.compile(**options)
    return model


PRED_A = X @ WA
PRED_B = 1 / (1 + np.exp(-X @ WB))
SQUARES = (YA - PRED_A) ** 2
ENTROPIES = -(YB * np.log(PRED_B) + (1 - YB) * np.log(1 - PRED_B))
HALF = np.array([1, 1, 1, 1, 0, 0, 0, 0], "float32")
ONES = np.ones(8, "float32")


def fit(model, y, batch_size=8, **options):
    history = model.fit(X, y, batch_size=batch_size, shuffle=False, verbose=0, **options).history
    return {name: values[-1] for name, values in history.items()}


def close(number, rel=1e-5):
    return pytest.approx(float(number), rel=rel)


# The experiments K1 to K16.


def test_k1_unlabelled_examples_do_not_dilute_the_loss():
    logs = fit(linear_model(), {"a": YA, "b": YB}, sample_weight={"a": HALF, "b": ONES})
    assert logs["a_loss"] == close(SQUARES[:4].mean())
    assert logs["b_loss"] == close(ENTROPIES.mean())
    assert logs["loss"] == close(SQUARES[:4].mean() + ENTROPIES.mean())


def test_k2_mean_with_sample_weight_divides_by_the_weights():
    weights = np.array([2, 1, 1, 0.5, 0, 0, 0, 0], "float32")
    loss = {"a": keras.losses.MeanSquaredError("mean_with_sample_weight"), "b": "binary_crossentropy"}
    logs = fit(linear_model(loss=loss), {"a": YA, "b": YB}, sample_weight={"a": weights, "b": ONES})
    assert logs["a_loss"] == close((SQUARES * weights).sum() / weights.sum())
    with pytest.warns(UserWarning, match="Task 'a' had no labelled example"):
        logs = fit(linear_model(loss=loss), {"a": YA, "b": YB}, sample_weight={"a": 0 * ONES, "b": ONES})
    assert np.isnan(logs["a_loss"])
    assert logs["loss"] == close(ENTROPIES.mean())


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_k3_a_batch_without_labels_does_not_dilute_the_epoch(reduction):
    loss = {"a": keras.losses.MeanSquaredError(reduction), "b": "binary_crossentropy"}
    logs = fit(linear_model(loss=loss), {"a": YA, "b": YB}, batch_size=4, sample_weight={"a": HALF, "b": ONES})
    assert logs["a_loss"] == close(SQUARES[:4].mean())


def test_k4_batches_of_one_task_keep_their_own_means():
    """Batches of a alone and of b alone, of different sizes, as samplers yield them."""
    parts = [({"a": YA[:4]}, X[:4]), ({"b": YB[4:]}, X[4:]), ({"a": YA[4:6]}, X[4:6])]
    model = linear_model()
    for y, x in parts:
        logs = model.train_step((x, y))  # `train_on_batch` would reset the trackers
    logs = {name: float(value) for name, value in logs.items()}
    assert logs["a_loss"] == close(SQUARES[:6].mean())
    assert logs["b_loss"] == close(ENTROPIES[4:].mean())
    assert logs["loss"] == close(SQUARES[:6].mean() + ENTROPIES[4:].mean())


def test_k5_nan_labels_of_weight_0_never_reach_the_loss():
    gaps = np.where(HALF > 0, YA, np.nan)
    for options, sample_weight in (({}, {"a": HALF, "b": ONES}), ({"missing": {"a": "nan"}}, None)):
        model = linear_model(optimizer=keras.optimizers.SGD(0.1), **options)
        logs = fit(model, {"a": gaps, "b": YB}, sample_weight=sample_weight)
        assert logs["a_loss"] == close(SQUARES[:4].mean())
        assert all(np.isfinite(w).all() for w in model.get_weights())


def test_k6_labels_of_one_task_alone_and_unknown_labels():
    with pytest.warns(UserWarning, match="Task 'b' had no labelled example in epoch 1"):
        logs = fit(linear_model(), {"a": YA})
    assert logs["a_loss"] == logs["loss"] == close(SQUARES.mean())
    assert np.isnan(logs["b_loss"])
    with pytest.raises(ValueError, match=r"keys of `y` should be tasks: \('a', 'b'\). Received: \['c'\]"):
        fit(linear_model(), {"a": YA, "c": YB})


def test_k7_metrics_leave_out_unlabelled_examples():
    weights = np.array([2, 1, 1, 0.5, 0, 0, 0, 0], "float32")
    model = linear_model(metrics={"a": ["mae"]}, weighted_metrics={"a": ["mse"]})
    logs = fit(model, {"a": YA, "b": YB}, sample_weight={"a": weights, "b": ONES})
    assert logs["a_mae"] == close(np.abs(YA - PRED_A)[:4].mean())  # `metrics`: who is labelled, not how much it weighs
    assert logs["a_mse"] == close((SQUARES * weights).sum() / weights.sum())


@pytest.mark.filterwarnings("ignore:The loss of task:UserWarning")
def test_k8_weights_change_without_a_recompile_and_leave_the_task_logs_alone():
    model = linear_model(loss_weights={"a": 1.0})
    before = model.evaluate(X, {"a": YA, "b": YB}, verbose=0, return_dict=True)
    model.compiled_tasks.static_weights.assign([10.0, 1.0], model)
    after = model.evaluate(X, {"a": YA, "b": YB}, verbose=0, return_dict=True)
    assert after["a_loss"] == before["a_loss"] == close(SQUARES.mean())
    assert after["loss"] == close(10 * SQUARES.mean() + ENTROPIES.mean())


def test_k9_changed_weights_survive_saving(tmp_path):
    model = linear_model(loss_weights={"a": 1.0})
    model.compiled_tasks.static_weights.assign([3.0, 0.5], model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.compiled_tasks.static_weights.numpy().tolist() == [3.0, 0.5]
    loaded.compiled_tasks.static_weights.assign([1.0, 2.0], loaded)  # not a constant
    logs = loaded.evaluate(X, {"a": YA, "b": YB}, verbose=0, return_dict=True)
    assert logs["loss"] == close(SQUARES.mean() + 2 * ENTROPIES.mean())


def test_k10_one_loss_for_all_with_weights_by_task():
    model = linear_model(loss="mse", loss_weights={"b": 4.0})
    logs = fit(model, {"a": YA, "b": YB})
    assert logs["loss"] == close(SQUARES.mean() + 4 * ((YB - PRED_B) ** 2).mean())


def multi_optimizer(trunk=0.1, a=0.01):
    optimizers = keras.optimizers
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(trunk), {"^a/.*": optimizers.Adam(a), "^b/.*": optimizers.SGD(0.0)})
    )


def shared_model():
    keras.utils.set_random_seed(0)
    heads = {"a": layers.Dense(1, name="out"), "b": layers.Dense(1, name="out", activation="sigmoid")}
    return keras_mtl.hard_sharing(keras.Input((3,)), [layers.Dense(4, name="fc")], heads)


def test_k11_an_optimizer_for_each_task_by_path(tmp_path):
    model = shared_model()
    model.compile(multi_optimizer(), loss={"a": "mse", "b": "binary_crossentropy"}, run_eagerly=True)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(X, {"a": YA, "b": YB}, batch_size=8, verbose=0)
    moved = {v.path: np.abs(v.numpy() - before[v.path]).max() for v in model.trainable_variables}
    assert moved["b/out/kernel"] == 0.0 and moved["shared/fc/kernel"] > 0.0
    assert moved["a/out/kernel"] == pytest.approx(0.01, rel=1e-3)  # the first step of Adam is its learning rate
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one in (model, loaded):
        one.fit(X, {"a": YA, "b": YB}, batch_size=8, verbose=0)
    for v, w in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)


@pytest.mark.filterwarnings("ignore:Task 'b' had no labelled:UserWarning")
def test_k11_an_optimizer_for_each_task_while_a_task_is_absent():
    model = shared_model()
    model.compile(multi_optimizer(), loss={"a": "mse", "b": "binary_crossentropy"})  # in a graph
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(X, {"a": YA}, batch_size=8, verbose=0)
    for v in model.trainable_variables:
        assert (np.abs(v.numpy() - before[v.path]).max() > 0) == (not v.path.startswith("b/")), v.path


def test_k13_copies_never_start_equal():
    """Even with a seed in the config and one initializer for all."""
    initializer = keras.initializers.GlorotUniform(seed=7)
    model = keras_mtl.hard_sharing(
        keras.Input((3,)),
        [layers.Dense(4, kernel_initializer=initializer, name="fc")],
        {"a": layers.Dense(1), "b": layers.Dense(1)},
        shared_depth=0,
    )
    kernels = {v.path: v.numpy() for v in model.trainable_variables}
    assert np.abs(kernels["a/fc/kernel"] - kernels["b/fc/kernel"]).min() > 1e-4


def test_k14_a_frozen_trunk_under_a_new_head():
    model = shared_model()
    bigger = model.add_task("c", layers.Dense(1), freeze="trunk")
    assert {v.path.split("/")[0] for v in bigger.trainable_variables} == {"a", "b", "c"}
    bigger = model.add_task("d", layers.Dense(1), freeze="all")
    assert {v.path.split("/")[0] for v in bigger.trainable_variables} == {"d"}


def test_k16_task_sampling_that_changes_while_fit_runs():
    """Counts of labelled examples follow a variable that a callback changes between epochs."""
    both = [
        tf.data.Dataset.from_tensors((X[0], {"a": YA[:1], "b": np.float32([np.nan])})).repeat(),
        tf.data.Dataset.from_tensors((X[1], {"a": np.float32([np.nan]), "b": YB[:1]})).repeat(),
    ]
    chosen = tf.Variable(0, dtype=tf.int64)
    choice = tf.data.Dataset.range(10**6).map(lambda _: chosen)
    data = tf.data.Dataset.choose_from_datasets(both, choice).batch(4).take(5).prefetch(1)
    model = linear_model(missing="nan")
    counts = []

    class Switch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(model.compiled_tasks.loss_tracker.counts.numpy().tolist())
            chosen.assign(1)

    with pytest.warns(UserWarning, match="had no labelled example"):
        model.fit(data, epochs=2, verbose=0, callbacks=[Switch()])
    assert counts == [[20.0, 0.0], [0.0, 20.0]]


# The table 1.5.


def test_static_weights_have_an_effect_after_compile():
    model = linear_model(optimizer=keras.optimizers.SGD(0.1))
    model.compiled_tasks.static_weights.assign([0.0, 1.0], model)
    before = model.get_weights()
    model.fit(X, {"a": YA, "b": YB}, batch_size=8, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[1], before[1])
    assert np.abs(model.get_weights()[2] - before[2]).max() > 0


def test_partial_loss_weights():
    logs = fit(linear_model(loss_weights={"a": 0.5}), {"a": YA, "b": YB})
    assert logs["loss"] == close(0.5 * SQUARES.mean() + ENTROPIES.mean())


@pytest.mark.parametrize("loss", [{"a": "mse", "b": None}, {"a": "mse"}])
@pytest.mark.parametrize("weighting", ["equal", "uncertainty"])
def test_a_task_without_a_loss_is_not_trained(loss, weighting):
    for y in ({"a": YA, "b": YB}, {"a": YA}):
        model = linear_model(optimizer=keras.optimizers.SGD(0.1), loss=loss, weighting=weighting)
        before = model.get_weights()
        logs = fit(model, y)
        assert set(logs) == {"loss", "a_loss", "a_weight"}
        assert logs["a_loss"] == close(SQUARES.mean())
        assert np.abs(model.get_weights()[1] - before[1]).max() > 0
        np.testing.assert_array_equal(model.get_weights()[2], before[2])


@pytest.mark.parametrize("as_data", [False, True], ids=["arrays", "tf.data"])
def test_partial_sample_weights(as_data):
    model = linear_model()
    if as_data:
        data = tf.data.Dataset.from_tensor_slices((X, {"a": YA, "b": YB}, {"a": HALF})).batch(8)
        logs = {k: v[-1] for k, v in model.fit(data, verbose=0).history.items()}
    else:
        logs = fit(model, {"a": YA, "b": YB}, sample_weight={"a": HALF})
    assert logs["a_loss"] == close(SQUARES[:4].mean())
    assert logs["b_loss"] == close(ENTROPIES.mean())


def test_class_weights_by_task():
    model = linear_model(class_weight={"b": {0: 1.0, 1: 3.0}}, weighted_metrics={"b": ["mse"]}, metrics={"b": ["mae"]})
    weights = np.where(YB == 1, 3.0, 1.0)
    logs = fit(model, {"a": YA, "b": YB})
    assert logs["b_loss"] == close((ENTROPIES * weights).mean())
    assert logs["a_loss"] == close(SQUARES.mean())
    assert logs["b_mae"] == close(np.abs(YB - PRED_B).mean())
    assert logs["b_mse"] == close(((YB - PRED_B) ** 2 * weights).sum() / weights.sum())
    # In training only, as in Keras.
    assert model.evaluate(X, {"a": YA, "b": YB}, verbose=0, return_dict=True)["b_loss"] == close(ENTROPIES.mean())


def test_total_is_the_sum_of_the_task_losses_with_a_partial_last_batch():
    model = linear_model()
    logs = fit(model, {"a": YA, "b": YB}, batch_size=3)
    assert logs["a_loss"] == close(SQUARES.mean()) and logs["b_loss"] == close(ENTROPIES.mean())
    assert logs["loss"] == close(logs["a_loss"] + logs["b_loss"])


def test_freezing_after_compile_takes_effect():
    model = linear_model(optimizer=keras.optimizers.SGD(0.1), run_eagerly=False)
    fit(model, {"a": YA, "b": YB})
    model.get_layer("trunk").trainable = False
    before = model.get_weights()
    fit(model, {"a": YA, "b": YB})
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert np.abs(model.get_weights()[1] - before[1]).max() > 0
    model.get_layer("trunk").trainable = True
    fit(model, {"a": YA, "b": YB})
    assert np.abs(model.get_weights()[0] - before[0]).max() > 0


def test_unfreezing_and_compiling_with_a_new_optimizer():
    model = linear_model(optimizer=keras.optimizers.Adam(0.1))
    model.get_layer("trunk").trainable = False
    model.compile(keras.optimizers.Adam(0.1), loss={"a": "mse"}, run_eagerly=True)
    fit(model, {"a": YA})
    model.get_layer("trunk").trainable = True
    model.compile(keras.optimizers.Adam(0.1), loss={"a": "mse"}, run_eagerly=True)
    before = model.get_weights()[0]
    fit(model, {"a": YA})
    assert np.abs(model.get_weights()[0] - before).max() > 0


def test_output_keys_name_the_tasks_whatever_the_layers_are_called():
    """Two tasks may also come out of one layer; metrics go to the task that they were given for."""
    inputs = keras.Input((3,))
    z, q = layers.Dense(1, name="z"), layers.Dense(1, name="q")
    hidden = layers.Dense(3, name="trunk")(inputs)
    model = keras_mtl.MultiTaskModel(inputs, {"q_task": z(hidden), "a_task": q(hidden), "again": q(hidden)})
    model.compile("sgd", loss="mse", metrics={"again": ["mae"], "q_task": ["mse"]}, run_eagerly=True)
    y = {"q_task": YA, "a_task": YA + 1, "again": YA + 2}
    p = {k: v[:, 0] for k, v in model.predict(X, verbose=0).items()}
    logs = model.evaluate(X, y, batch_size=8, verbose=0, return_dict=True)
    assert logs["again_mae"] == close(np.abs(y["again"] - p["again"]).mean())
    assert logs["q_task_mse"] == close(((y["q_task"] - p["q_task"]) ** 2).mean())
    for task in y:
        assert logs[f"{task}_loss"] == close(((y[task] - p[task]) ** 2).mean())
    assert "q_task_mae" not in logs and "again_mse" not in logs


def test_stopping_early_on_a_task():
    model = linear_model(metrics={"b": ["accuracy"]})
    stop = keras.callbacks.EarlyStopping("val_b_accuracy", patience=1, mode="max")
    data = (X, {"a": YA, "b": YB})
    history = model.fit(*data, validation_data=data, epochs=5, verbose=0, callbacks=[stop]).history
    assert len(history["loss"]) == 2  # a learning rate of 0 makes no progress
    assert history["val_b_accuracy"][0] == close(((PRED_B > 0.5) == YB).mean())
