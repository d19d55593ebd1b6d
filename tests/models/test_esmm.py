"""The funnel of ESMM: probabilities, loss and gradient worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl

RNG = np.random.default_rng(0)
N = 40
X = RNG.normal(size=(N, 5)).astype("float32")
CLICK = RNG.integers(0, 2, N)
BUY = CLICK * RNG.integers(0, 2, N)
LOSS = {"click": "binary_crossentropy", "buy": "binary_crossentropy"}


def build(tasks=("click", "buy"), **options):
    stages = [layers.Dense(6, activation="tanh", name="fc")]
    return keras_mtl.esmm(keras.Input((5,)), stages, {t: layers.Dense(1, name="out") for t in tasks}, **options)


def logits(model, task):
    return model.get_layer(task)(model.get_layer("shared_fc")(X)).numpy()[:, 0]


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype("float64")))


@pytest.mark.oracle
def test_probabilities_and_loss():
    model = build()
    q = {task: sigmoid(logits(model, task)) for task in ("click", "buy")}
    p = {"click": q["click"], "buy": q["click"] * q["buy"], "buy_given_click": q["buy"]}
    found = model.predict(X, verbose=0)
    assert set(found) == set(p)
    for name in p:
        np.testing.assert_allclose(found[name][:, 0], p[name], rtol=1e-5, err_msg=name)
    model.compile(keras.optimizers.SGD(0.0), loss=LOSS, run_eagerly=True)
    logs = model.evaluate(X, {"click": CLICK, "buy": BUY}, batch_size=9, verbose=0, return_dict=True)
    for task, y in (("click", CLICK), ("buy", BUY)):  # over all examples, clicked or not
        expected = -np.mean(y * np.log(p[task]) + (1 - y) * np.log(1 - p[task]))
        assert logs[f"{task}_loss"] == pytest.approx(expected, rel=1e-5)
    assert not [name for name in logs if "given" in name]

    # Who clicked not long ago may still buy: unknown, and neither clicked nor bought for that.
    known = np.arange(N) % 3 > 0
    model.compile(keras.optimizers.SGD(0.0), loss=LOSS, missing={"buy": "nan"}, run_eagerly=True)
    y = {"click": CLICK, "buy": np.where(known, BUY, np.nan)}
    logs = model.evaluate(X, y, batch_size=9, verbose=0, return_dict=True)
    values = -(BUY * np.log(p["buy"]) + (1 - BUY) * np.log(1 - p["buy"]))
    assert logs["buy_loss"] == pytest.approx(values[known].mean(), rel=1e-5)


@pytest.mark.oracle
def test_the_loss_of_the_purchase_trains_both_heads_as_the_product_says():
    model = build()
    with tf.GradientTape(persistent=True) as tape:
        features = model.get_layer("shared_fc")(X)
        z = {task: model.get_layer(task)(features) for task in ("click", "buy")}
        p = tf.sigmoid(z["click"]) * tf.sigmoid(z["buy"])
        value = tf.reduce_sum(keras.losses.binary_crossentropy(BUY[:, None], p))
    q = {task: sigmoid(logits(model, task)) for task in z}
    joint = q["click"] * q["buy"]
    slope = (joint - BUY) / (1 - joint)
    for task in z:
        np.testing.assert_allclose(tape.gradient(value, z[task])[:, 0], slope * (1 - q[task]), rtol=1e-3, atol=1e-6)
    model.compile(keras.optimizers.SGD(1.0), loss={"buy": "binary_crossentropy"}, run_eagerly=True)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(X, {"buy": BUY}, batch_size=N, verbose=0)
    after = {v.path: v.numpy() for v in model.trainable_variables}
    for task in z:
        moved = before[f"{task}/out/bias"][0] - after[f"{task}/out/bias"][0]
        assert moved == pytest.approx(np.mean(slope * (1 - q[task])), rel=1e-3)


def test_the_conversion_is_measured_in_its_sample_space():
    model = build()
    given = "buy_given_click"
    model.compile("sgd", loss=LOSS, metrics={given: ["mae"]}, sample_space={given: "click"}, run_eagerly=True)
    y = {"click": CLICK, "buy": BUY, given: BUY}
    q = model.predict(X, verbose=0)[given][:, 0]
    logs = model.evaluate(X, y, batch_size=9, verbose=0, return_dict=True)
    assert logs[f"{given}_mae"] == pytest.approx(np.abs(q - BUY)[CLICK == 1].mean(), rel=1e-5)
    np.testing.assert_allclose(model.task_model(given)(X)[:, 0], q, rtol=1e-5)


def test_longer_funnels_and_other_builders():
    model = build(("see", "click", "buy"), builder=keras_mtl.mmoe, experts=2)
    assert model.tasks == ("see", "click", "buy", "click_given_see", "buy_given_click")
    p = model.predict(X, verbose=0)
    np.testing.assert_allclose(p["buy"], p["see"] * p["click_given_see"] * p["buy_given_click"], rtol=1e-5)
    assert (p["see"] >= p["click"]).all() and (p["click"] >= p["buy"]).all()
    assert set(model.sharing_coefficients(X)) == {"see/gate", "click/gate", "buy/gate"}


def test_products_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = build()
    for task in ("click", "buy"):
        model.get_layer(task).stack[0].bias.assign([-9.0])
    p = model(X)
    assert {str(x.dtype) for x in p.values()} == {"<dtype: 'float32'>"}
    assert 0 < float(np.min(p["buy"])) < 1e-6


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"click": layers.Dense(1)}, "the two tasks of a funnel or more"),
        (
            {"click": layers.Dense(1, activation="sigmoid"), "buy": layers.Dense(1)},
            "task 'click' should give logits",
        ),
        ({"click": layers.Dense(2), "buy": layers.Dense(1)}, "outputs of one shape"),
        ({t: layers.Dense(1) for t in ("a", "b", "b_given_a")}, "those of conditional outputs"),
    ],
)
def test_bad_heads(heads, message):
    with pytest.raises(ValueError, match=message):
        keras_mtl.esmm(keras.Input((5,)), [layers.Dense(6)], heads)
