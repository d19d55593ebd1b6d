"""With equal weighting the model is plain Keras to float precision, wherever plain Keras is right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

import keras_mtl


def fourth_power(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 4, axis=-1)


# task: (head, loss, labels). Heads differ in size, labels in shape and dtype.
KINDS = {
    "mse": (lambda: layers.Dense(1), "mse", "column"),
    "flat": (lambda: layers.Dense(1), "mse", "vector"),
    "mae": (lambda: layers.Dense(3), losses.MeanAbsoluteError, "matrix"),
    "huber": (lambda: layers.Dense(3), losses.Huber, "matrix"),
    "logcosh": (lambda: layers.Dense(3), "log_cosh", "matrix"),
    "poisson": (lambda: layers.Dense(1, activation="exponential"), "poisson", "counts"),
    "cosine": (lambda: layers.Dense(3), losses.CosineSimilarity, "matrix"),
    "function": (lambda: layers.Dense(3), lambda: fourth_power, "matrix"),
    "summed": (lambda: layers.Dense(1), lambda: losses.MeanSquaredError(reduction="sum"), "column"),
    "mean": (lambda: layers.Dense(1), lambda: losses.MeanSquaredError(reduction="mean"), "vector"),
    "weighted": (lambda: layers.Dense(1), lambda: losses.MeanSquaredError("mean_with_sample_weight"), "column"),
    "binary": (lambda: layers.Dense(1, activation="sigmoid"), "binary_crossentropy", "bits"),
    "bits": (lambda: layers.Dense(1, activation="sigmoid"), "bce", "bit_column"),
    "logits": (lambda: layers.Dense(4), lambda: losses.BinaryCrossentropy(from_logits=True), "bit_matrix"),
    "focal": (lambda: layers.Dense(4, activation="sigmoid"), losses.BinaryFocalCrossentropy, "bit_matrix"),
    "hinge": (lambda: layers.Dense(4), "hinge", "bit_matrix"),
    "classes": (lambda: layers.Dense(5, activation="softmax"), "sparse_categorical_crossentropy", "classes"),
    "columns": (lambda: layers.Dense(5, activation="softmax"), "sparse_categorical_crossentropy", "class_column"),
    "onehot": (
        lambda: layers.Dense(5, activation="softmax"),
        lambda: losses.CategoricalCrossentropy(label_smoothing=0.1),
        "onehot",
    ),
    "kl": (lambda: layers.Dense(5, activation="softmax"), "kl_divergence", "onehot"),
    "name_sparse": (lambda: layers.Dense(5, activation="softmax"), "crossentropy", "class_column"),
    "name_flat": (lambda: layers.Dense(5, activation="softmax"), "ce", "classes"),
    "name_onehot": (lambda: layers.Dense(5, activation="softmax"), "crossentropy", "onehot"),
    "name_binary": (lambda: layers.Dense(1, activation="sigmoid"), "crossentropy", "bit_column"),
}


def labels(kind, n, rng):
    classes = rng.integers(0, 5, n)
    return {
        "column": rng.normal(size=(n, 1)).astype("float32"),
        "vector": rng.normal(size=n).astype("float32"),
        "matrix": rng.normal(size=(n, 3)).astype("float32"),
        "counts": rng.poisson(2.0, (n, 1)),
        "bits": rng.integers(0, 2, n),
        "bit_column": rng.integers(0, 2, (n, 1)),
        "bit_matrix": rng.integers(0, 2, (n, 4)).astype("float32"),
        "classes": classes,
        "class_column": classes[:, None],
        "onehot": np.eye(5, dtype="float32")[classes],
    }[kind]


def pair(build):
    """The same model twice: ours, and plain Keras with copied weights."""
    ours = build()
    other = build()
    plain = keras.Model(other.input, other.output)
    plain.set_weights(ours.get_weights())
    return ours, plain


def compile_both(ours, plain, optimizer=lambda: keras.optimizers.Adam(0.01), **options):
    """Eagerly: `test_hard_sharing.py` and `test_keras_conventions.py` compare graphs with those of plain Keras."""
    for model in (ours, plain):
        chosen = {k: v() if callable(v) else v for k, v in options.items()}
        model.compile(optimizer=optimizer(), run_eagerly=True, **chosen)


def assert_same_weights(ours, plain, rtol=2e-5, atol=2e-6):
    for a, b in zip(ours.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=a.path)
    for a, b in zip(ours.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=a.path)


def assert_same_logs(ours, plain, leave_out=(), rtol=1e-5):
    """Every log of plain Keras is there with the same number; ours has the task weights on top."""
    extra = {k for k in ours if k.endswith("_weight")}
    assert set(ours) - extra == set(plain)
    for name in set(plain) - set(leave_out):
        np.testing.assert_allclose(ours[name], plain[name], rtol=rtol, atol=1e-6, err_msg=name)


def every_kind():
    keras.utils.set_random_seed(1)
    trunk = [layers.Dense(12, activation="tanh", kernel_regularizer="l2"), layers.Dense(8, activation="tanh")]
    heads = {task: head() for task, (head, _, _) in KINDS.items()}
    return keras_mtl.hard_sharing(keras.Input((6,)), trunk, heads)


def every_loss():
    return {task: loss() if callable(loss) else loss for task, (_, loss, _) in KINDS.items()}


def every_label(n=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype("float32"), {
        task: labels(kind, n, rng) for task, (_, _, kind) in KINDS.items()
    }


def test_every_loss_kind_with_sample_weights_and_partial_last_batch():
    """Training with sample weights, evaluation without: the two forms that a loss takes, in one pair of models."""
    ours, plain = pair(every_kind)
    x, y = every_label()
    compile_both(
        ours,
        plain,
        loss=every_loss,
        loss_weights={t: 0.5 + 0.1 * i for i, t in enumerate(KINDS)},
        metrics=lambda: {"mse": ["mae"], "classes": ["accuracy"], "onehot": ["accuracy"], "bits": ["accuracy"]},
        weighted_metrics=lambda: {"mae": ["mse"], "columns": ["accuracy"]},
    )
    rng = np.random.default_rng(1)
    sample_weight = {t: rng.uniform(0.2, 2.0, 20).astype("float32") for t in KINDS}
    options = dict(batch_size=8, shuffle=False, verbose=0, sample_weight=sample_weight)
    ours_logs, plain_logs = ours.fit(x, y, **options).history, plain.fit(x, y, **options).history
    assert_same_weights(ours, plain)
    # The trackers of plain Keras take every batch for a whole one, its total does not.
    assert_same_logs(ours_logs, plain_logs, leave_out=[f"{t}_loss" for t in KINDS])
    assert ours_logs["mse_weight"] == pytest.approx([0.5])
    whole = dict(batch_size=10, verbose=0, return_dict=True)
    assert_same_logs(ours.evaluate(x, y, **whole), plain.evaluate(x, y, **whole))


@keras.saving.register_keras_serializable("tests")
class AddsLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(inputs**2))
        return inputs


def added_losses():
    keras.utils.set_random_seed(2)
    trunk = [
        layers.Dense(10, activation="relu", kernel_regularizer=keras.regularizers.L2(0.1)),
        layers.BatchNormalization(),
        AddsLoss(),
        layers.Dense(6, activation="relu", activity_regularizer="l1"),
    ]
    heads = {"a": layers.Dense(1, bias_regularizer="l2"), "b": layers.Dense(3, activation="softmax")}
    return keras_mtl.hard_sharing(keras.Input((6,)), trunk, heads)


def test_regularizers_add_loss_and_batch_normalization():
    ours, plain = pair(added_losses)
    compile_both(ours, plain, loss={"a": "mse", "b": "sparse_categorical_crossentropy"})
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 1.0, (20, 6)).astype("float32")
    y = {"a": rng.normal(size=20).astype("float32"), "b": rng.integers(0, 3, 20)}
    options = dict(batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
    ours_logs, plain_logs = ours.fit(x, y, **options).history, plain.fit(x, y, **options).history
    # Plain Keras weighs its task trackers by batches, the last of which is half as large.
    assert_same_logs(ours_logs, plain_logs, leave_out=["a_loss", "b_loss", "val_a_loss", "val_b_loss"])
    assert_same_weights(ours, plain)
    for a, b in zip(ours.non_trainable_variables, plain.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=a.path)
    assert ours_logs["loss"][0] - ours_logs["a_loss"][0] - ours_logs["b_loss"][0] > 0.1  # the added part is in it


def sequences():
    keras.utils.set_random_seed(3)
    trunk = [layers.Embedding(20, 6, mask_zero=True), layers.LSTM(5, return_sequences=True)]
    heads = {
        "tag": layers.Dense(4, activation="softmax"),  # one label for each position
        "topic": [layers.LSTM(4), layers.Dense(3, activation="softmax")],
    }
    return keras_mtl.hard_sharing(keras.Input((7,), dtype="int32"), trunk, heads)


def test_masked_sequences():
    ours, plain = pair(sequences)
    ce = "sparse_categorical_crossentropy"
    compile_both(
        ours, plain, loss={"tag": ce, "topic": ce}, weighted_metrics=lambda: {"tag": ["accuracy"]}, metrics=dict
    )
    rng = np.random.default_rng(0)
    x = rng.integers(1, 20, (16, 7))
    x[np.arange(7) >= rng.integers(2, 8, 16)[:, None]] = 0
    y = {"tag": rng.integers(0, 4, (16, 7)), "topic": rng.integers(0, 3, 16)}
    options = dict(batch_size=8, shuffle=False, verbose=0)
    logs, plain_logs = ours.fit(x, y, **options).history, plain.fit(x, y, **options).history
    assert_same_weights(ours, plain)
    assert logs["topic_loss"] == pytest.approx(plain_logs["topic_loss"], rel=1e-5)

    # One batch: the mean over the positions that are not padding, worked out by hand.
    p = ours.predict_on_batch(x)["tag"]
    real = x != 0
    by_hand = -np.log(np.take_along_axis(p, y["tag"][..., None], -1))[..., 0][real].mean()
    right = (p.argmax(-1) == y["tag"])[real].mean()
    mine = ours.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)
    assert mine["tag_loss"] == pytest.approx(by_hand, rel=1e-5)
    assert mine["tag_accuracy"] == pytest.approx(right, rel=1e-6)
    assert_same_logs(mine, plain.evaluate(x, y, batch_size=16, verbose=0, return_dict=True))


def images():
    keras.utils.set_random_seed(4)
    trunk = [layers.Conv2D(4, 3, padding="same", activation="relu")]
    heads = {
        "depth": layers.Conv2D(1, 1),
        "segments": layers.Conv2D(3, 1, activation="softmax"),
        "scene": [layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")],
    }
    return keras_mtl.hard_sharing(keras.Input((6, 5, 2)), trunk, heads)


def test_images_out():
    ours, plain = pair(images)
    ce = "sparse_categorical_crossentropy"
    compile_both(
        ours,
        plain,
        loss={"depth": "mae", "segments": ce, "scene": ce},
        metrics=lambda: {"segments": ["accuracy"], "depth": ["mse"]},
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6, 5, 2)).astype("float32")
    y = {
        "depth": rng.normal(size=(8, 6, 5, 1)).astype("float32"),
        "segments": rng.integers(0, 3, (8, 6, 5)),
        "scene": rng.integers(0, 2, 8),
    }
    options = dict(batch_size=4, shuffle=False, verbose=0)
    assert_same_logs(ours.fit(x, y, **options).history, plain.fit(x, y, **options).history)
    assert_same_weights(ours, plain)


def two_heads():
    keras.utils.set_random_seed(5)
    heads = {"a": layers.Dense(1), "b": layers.Dense(3, activation="softmax")}
    return keras_mtl.hard_sharing(keras.Input((6,)), [layers.Dense(8, activation="tanh")], heads)


def two_labels(n=20):
    rng = np.random.default_rng(0)
    y = {"a": rng.normal(size=n).astype("float32"), "b": rng.integers(0, 3, n)}
    return rng.normal(size=(n, 6)).astype("float32"), y


def test_gradients_of_one_step():
    """SGD with a learning rate of 1 shows the gradient itself; it is the tape's."""
    ours, plain = pair(two_heads)
    x, y = two_labels()
    loss = {"a": "mse", "b": "sparse_categorical_crossentropy"}
    ours.compile(keras.optimizers.SGD(1.0), loss=loss, run_eagerly=True)
    with tf.GradientTape() as tape:
        out = plain(x, training=True)
        loss = tf.reduce_mean((out["a"][:, 0] - y["a"]) ** 2)
        loss += tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y["b"], out["b"]))
    before = [v.numpy() for v in ours.trainable_variables]
    logs = ours.train_on_batch(x, y, return_dict=True)
    for v, old, g in zip(ours.trainable_variables, before, tape.gradient(loss, plain.trainable_variables), strict=True):
        np.testing.assert_allclose(old - v.numpy(), g, rtol=1e-4, atol=1e-6, err_msg=v.path)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert float(ours.compute_loss(x, y, plain(x))) == pytest.approx(float(loss), rel=1e-5)


def test_tf_data_with_sample_weights():
    ours, plain = pair(two_heads)
    compile_both(ours, plain, loss={"a": "mse", "b": "sparse_categorical_crossentropy"})
    x, y = two_labels()
    w = {"a": np.linspace(0.1, 2.0, 20, dtype="float32"), "b": np.linspace(2.0, 0.1, 20, dtype="float32")}
    data = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(8)
    ours_logs, plain_logs = ours.fit(data, verbose=0).history, plain.fit(data, verbose=0).history
    assert_same_weights(ours, plain)
    assert_same_logs(ours_logs, plain_logs, leave_out=["a_loss", "b_loss"])


def test_train_on_batch_test_on_batch_and_predict():
    ours, plain = pair(two_heads)
    compile_both(ours, plain, loss={"a": "mse", "b": "sparse_categorical_crossentropy"})
    x, y = two_labels(8)
    mine, theirs = (m.train_on_batch(x, y, return_dict=True) for m in (ours, plain))
    assert_same_logs(mine, theirs)
    mine, theirs = (m.test_on_batch(x, y, return_dict=True) for m in (ours, plain))
    assert set(mine) == set(theirs) == {"loss", "a_loss", "b_loss"}
    assert_same_logs(mine, theirs)
    for task, out in ours.predict(x, verbose=0).items():
        np.testing.assert_allclose(out, plain.predict(x, verbose=0)[task], rtol=1e-5, atol=1e-6)


def test_one_task_alone():
    """A single output, labels given without a dict, class weights: as in plain Keras."""

    def build():
        keras.utils.set_random_seed(6)
        head = {"only": layers.Dense(3, activation="softmax")}
        return keras_mtl.hard_sharing(keras.Input((6,)), [layers.Dense(8, activation="relu")], head)

    ours, other = build(), build()
    plain = keras.Model(other.input, other.output["only"])
    x, y = two_labels()
    ce = "sparse_categorical_crossentropy"
    by_class = {0: 1.0, 1: 2.0, 2: 0.5}
    ours.compile(keras.optimizers.Adam(0.01), loss=ce, class_weight={"only": by_class}, run_eagerly=True)
    plain.compile(keras.optimizers.Adam(0.01), loss=ce, run_eagerly=True)
    options = dict(batch_size=8, shuffle=False, verbose=0)
    mine = ours.fit(x, y["b"], **options).history
    theirs = plain.fit(x, y["b"], class_weight=by_class, **options).history
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert_same_weights(ours, plain)
