"""Every way in which `fit` can run gives what the plain way gives."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from tests.rows import by_default

WEIGHTINGS = ["equal", "uncertainty", "mgda"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(28, 4)).astype("float32")
PRICE = RNG.normal(size=28).astype("float32")
PRICE[::3] = np.nan
PRICE[4:8] = np.nan  # one batch without any
Y = {"price": PRICE, "kind": RNG.integers(0, 3, 28)}


def compiled(weighting, optimizer=lambda: keras.optimizers.SGD(0.05), **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [layers.Dense(6, activation="tanh", kernel_regularizer="l2")],
        {"price": layers.Dense(1), "kind": layers.Dense(3, activation="softmax", dtype="float32")},
    )
    model.compile(
        optimizer(),
        loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
        metrics={"kind": ["accuracy"]},
        weighting=weighting,
        missing={"price": "nan"},
        **options,
    )
    return model


def train(*args, **options):
    model = compiled(*args, **options)
    # Seven batches of 4, so that steps_per_execution=8 and gradient accumulation end in the middle.
    logs = model.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history
    return model, {name: values[-1] for name, values in logs.items()}


@functools.cache
def reference(weighting):
    model, logs = train(weighting)
    return [v.numpy() for v in model.variables], logs


def assert_same(model, logs, weighting, rtol=1e-4, atol=1e-6, leave_out=()):
    expected, expected_logs = reference(weighting)
    for v, w in zip(model.variables, expected, strict=True):
        np.testing.assert_allclose(v, w, rtol=rtol, atol=atol, err_msg=v.path)
    assert set(logs) == set(expected_logs)
    for name in set(expected_logs) - set(leave_out):
        value = expected_logs[name]
        assert logs[name] == pytest.approx(value, rel=rtol, abs=1e-5), name


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(
    "options",
    [{"run_eagerly": True}, {"steps_per_execution": 8}, {"jit_compile": True}],
    ids=lambda options: next(iter(options)),
)
def test_same_numbers(weighting, options):
    model, logs = train(weighting, **options)
    assert_same(model, logs, weighting)


POLICIES = [(policy, weighting) for policy in ("mixed_float16", "mixed_bfloat16") for weighting in WEIGHTINGS]
# Learned weights and weights from gradients; a plain sum has less to go wrong, and the lesser range needs scaling.
LESS = [("mixed_float16", "uncertainty"), ("mixed_float16", "mgda"), ("mixed_bfloat16", "mgda")]


@pytest.mark.parametrize(("policy", "weighting"), by_default(LESS, POLICIES))
def test_mixed_precision_is_close(policy, weighting):
    keras.config.set_dtype_policy(policy)
    scaled = lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=2.0**10)  # noqa: E731
    model, logs = train(weighting, scaled if policy == "mixed_float16" else lambda: keras.optimizers.SGD(0.05))
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert_same(model, logs, weighting, rtol=0.1, atol=0.03, leave_out=["kind_accuracy"])


@pytest.mark.parametrize("weighting", ["uncertainty", "mgda"])
def test_skipped_steps_of_mixed_float16_leave_everything_as_it_was(weighting):
    """A loss scale far too high: every step overflows, so nothing may move or become NaN."""
    keras.config.set_dtype_policy("mixed_float16")
    keras.utils.set_random_seed(0)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=2.0**100)
    model, logs = train(weighting, lambda: optimizer)
    untouched = compiled(weighting)
    for v, w in zip(model.trainable_variables, untouched.trainable_variables, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)
    assert all(np.isfinite(v.numpy()).all() for v in model.variables)
    assert np.isfinite(logs["loss"])


# `equal` is compared with plain Keras below.
@pytest.mark.parametrize("weighting", by_default(WEIGHTINGS[1:], WEIGHTINGS))
def test_gradient_accumulation_steps_once_in_a_while(weighting):
    """With SGD, accumulating 2 batches of 4 is one step of half the sum; here against such a step."""
    model, _ = train(weighting, lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=2))
    again, _ = train(weighting, lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=2), run_eagerly=True)
    start = compiled(weighting)
    assert int(model.optimizer.iterations) == 3
    for v, w, s in zip(model.trainable_variables, again.trainable_variables, start.trainable_variables, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-7, err_msg=v.path)
        assert np.abs(v.numpy() - s.numpy()).max() > 1e-4, v.path


def test_gradient_accumulation_equals_plain_keras():
    ours = compiled("equal")
    plain = keras.models.clone_model(keras.Model(ours.input, ours.output))
    plain.set_weights(ours.get_weights())
    y = {"price": np.nan_to_num(PRICE), "kind": Y["kind"]}
    for model in (ours, plain):
        optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
        losses = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
        model.compile(optimizer, loss=losses, run_eagerly=True)  # in the graph as eagerly: above
        model.fit(X, y, batch_size=4, shuffle=False, verbose=0)
    for v, w in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-4, atol=1e-6, err_msg=v.path)


# Two replicas. Each global batch of 8 is cut in two halves of 4; the labels of "price" stand in one of them.


def distributed_data():
    price = RNG.normal(size=24).astype("float32")
    price[[0, 1, 2, 4, 8, 9, 10, 11, 12, 17, 20, 22]] = np.nan  # 1 and 3, 0 and 3, 3 and 2 labels in the halves
    x = np.random.default_rng(1).normal(size=(24, 4)).astype("float32")
    y = {"price": price, "kind": np.random.default_rng(2).integers(0, 3, 24)}
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def distributed_model(weighting, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [layers.Dense(6, activation="tanh", kernel_regularizer="l2"), layers.Dense(5, activation="tanh")],
        {"price": layers.Dense(1), "kind": layers.Dense(3, activation="softmax")},
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
        metrics={"kind": ["accuracy"], "price": ["mae"]},
        weighting=weighting,
        missing={"price": "nan"},
        jit_compile=False,
        **options,
    )
    return model


@pytest.mark.parametrize(
    ("weighting", "gradients"),
    by_default(
        [("uncertainty", "parameters"), ("mgda", "features")],
        [("equal", "parameters"), ("uncertainty", "parameters")]
        + [("mgda", place) for place in ("parameters", "last_shared", "features")],
    ),
)
def test_two_replicas_equal_one_device(weighting, gradients, mirrored_strategy):
    data = distributed_data()
    single = distributed_model(weighting, gradients=gradients, run_eagerly=True)
    start = single.get_weights()
    one = single.fit(data, epochs=2, verbose=0).history
    with mirrored_strategy.scope():
        double = distributed_model(weighting, gradients=gradients)
    double.set_weights(start)
    two = double.fit(data, epochs=2, verbose=0).history
    for v, w in zip(single.variables, double.variables, strict=True):
        np.testing.assert_allclose(v, w, atol=1e-5, err_msg=v.path)
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, err_msg=name)
    if weighting == "uncertainty":  # the others are evaluated as it is
        mine, theirs = (m.evaluate(data, verbose=0, return_dict=True) for m in (single, double))
        for name in mine:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), name


@pytest.mark.parametrize(
    ("depth", "options"),
    [(1, {"weighting": "great"}), (1, {"weighting": "modo"}), (0, {"on_nonfinite": "skip_task"})],
    ids=["learned from parts", "heads alone", "nothing shared"],
)
def test_one_step_of_two_replicas(depth, options, mirrored_strategy):
    """Plain SGD, which tells a gradient from its half; `modo` splits a batch otherwise, but not for heads."""
    models, data = [], distributed_data().take(1)
    for scope in (tf.distribute.get_strategy().scope, mirrored_strategy.scope):
        with scope():
            keras.utils.set_random_seed(0)
            heads = {"price": layers.Dense(1), "kind": layers.Dense(3, activation="softmax")}
            model = keras_mtl.hard_sharing(
                keras.Input((4,)), [layers.Dense(5, activation="tanh")], heads, shared_depth=depth
            )
            losses = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
            how = {"run_eagerly": not models, "jit_compile": False}
            model.compile(keras.optimizers.SGD(0.5), losses, missing={"price": "nan"}, **how, **options)
        models.append(model)
    single, double = models
    double.set_weights(single.get_weights())
    before = [v.numpy() for v in single.trainable_variables]
    for model in models:
        model.fit(data, verbose=0)
    named = [v.path.startswith(("price", "kind")) for v in single.trainable_variables]
    assert any(named)
    for v, w, old, of_head in zip(single.trainable_variables, double.trainable_variables, before, named, strict=True):
        if of_head or options != {"weighting": "modo"}:
            np.testing.assert_allclose(v, w, atol=1e-6, err_msg=v.path)
            assert np.abs(v.numpy() - old).max() > 1e-4, v.path


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_a_step_that_overflows_on_one_replica_is_skipped_on_all(weighting, mirrored_strategy):
    """Plain Keras applies it: tests/contract/test_keras_limits.py."""
    x = np.random.default_rng(1).normal(size=(8, 4)).astype("float32")
    x[[2, 3]] = 1e15
    y = {"price": x[:, 0] * 0, "kind": np.zeros(8, int)}
    with mirrored_strategy.scope():
        model = keras_mtl.hard_sharing(
            keras.Input((4,)), [layers.Dense(3)], {"price": layers.Dense(1), "kind": layers.Dense(3)}
        )
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**100)
        losses = {"price": "mse", "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
        model.compile(optimizer, losses, weighting=weighting)
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), epochs=1, steps_per_epoch=1, verbose=0)
    for v, w in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(v, w)
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**99
