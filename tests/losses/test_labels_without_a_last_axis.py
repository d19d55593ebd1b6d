"""Labels of positions without the predictions' last axis of 1: they are masked and weighed as those with it."""

import keras
import numpy as np
import pytest

import keras_mtl

OPTIONS = {
    "gaps": ({"missing": "nan"}, None),
    "no gaps": ({"missing": "nan"}, None),
    "weights": ({}, np.array([1.0, 0.0, 2.0], "float32")),
    "classes": ({"class_weight": {"a": {0: 0.5, 1: 2.0}}}, None),
}


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse", "hinge"])
@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("option", OPTIONS)
def test_they_give_the_same_loss(loss, length, option):
    options, weights = OPTIONS[option]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4, 2)).astype("float32"), rng.integers(0, 2, size=(3, 4)).astype("float32")
    if option == "gaps":
        y[0, 1:], y[1] = np.nan, np.nan
    head = keras.layers.Dense(1, activation="sigmoid")
    model = keras_mtl.hard_sharing(keras.Input((length, 2)), [], {"a": head})
    model.compile("sgd", loss={"a": loss}, run_eagerly=True, **options)
    given = {} if weights is None else {"sample_weight": {"a": weights}}
    start = model.get_weights()
    with_axis = model.train_on_batch(x, {"a": y[..., None]}, **given, return_dict=True)
    model.set_weights(start)
    without = model.train_on_batch(x, {"a": y}, **given, return_dict=True)
    assert np.isfinite(without["loss"])
    assert without["loss"] == pytest.approx(with_axis["loss"], rel=1e-6)
