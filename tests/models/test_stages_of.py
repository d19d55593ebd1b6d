"""Cutting functional backbones into stages."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def backbone(around=False):
    inputs = keras.Input((6,))
    a = layers.Dense(5, activation="relu", name="a")(inputs)
    b = layers.Dense(5, activation="relu", name="b")(a)
    c = layers.Add(name="c")([a, b])  # a skip within a stage is fine
    d = layers.Dense(5, activation="relu", name="d")(c)
    e = layers.Add(name="e")([d, a]) if around else d
    return keras.Model(inputs, layers.Dense(3, name="f")(e), name="small")


def heads():
    return {"one": layers.Dense(1, name="out"), "two": layers.Dense(2, name="out")}


def test_stages_compute_what_the_backbone_computes():
    model = backbone()
    stages = keras_mtl.stages_of(model, cuts=["c", "d"])
    assert [stage.output_shape for stage in stages] == [(None, 5), (None, 5), (None, 3)]
    out = X
    for stage in stages:
        out = stage(out)
    np.testing.assert_allclose(out, model(X), rtol=1e-6)
    assert [id(v) for stage in stages for v in stage.weights] == [id(v) for v in model.weights]


def test_a_cut_at_the_output_makes_no_empty_stage():
    assert len(keras_mtl.stages_of(backbone(), cuts=["c", "f"])) == 2
    assert len(keras_mtl.stages_of(backbone(), cuts=[])) == 1


@pytest.mark.parametrize(
    ("around", "cuts", "says"),
    [
        (True, ["c"], "no connection around them.*part that ends at 'small_rest' also needs layers before the cut"),
        (False, ["b"], "no connection around them"),
        (False, ["d", "c"], "passed one after the other"),
        (False, ["x"], "`cuts` should name layers of model 'small'. Received: 'x'; layers: .*'a', 'b'"),
    ],
)
def test_cuts_that_do_not_part_the_model(around, cuts, says):
    with pytest.raises(ValueError, match=says):
        keras_mtl.stages_of(backbone(around), cuts=cuts)


def test_pretrained_columns_and_paths_before_and_after_loading(tmp_path):
    stages = keras_mtl.stages_of(backbone(), cuts=["c"])
    stages[1](stages[0](X))
    model = keras_mtl.hard_sharing(keras.Input((6,)), stages, heads(), shared_depth=1, copy_weights=True)
    source = {v.path: v.numpy() for v in stages[1].weights}
    for task in ("one", "two"):
        copies = {v.path: v.numpy() for v in model.task_variables(task)}
        for path, value in source.items():
            np.testing.assert_array_equal(copies[f"{task}/{path}"], value)
    model.compile("adam", loss="mse")
    y = {"one": X[:, 0], "two": X[:, :2]}
    model.fit(X, y, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]
    for v, w in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(v, w)
    assert model.fit(X, y, verbose=0).history == loaded.fit(X, y, verbose=0).history


def test_an_application():
    """MobileNetV2 between two of its blocks, where no skip connection passes."""
    net = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    low, high = keras_mtl.stages_of(net, cuts=["block_13_expand_relu"])
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(high(low(x)), net(x), rtol=1e-4, atol=1e-6)
    model = keras_mtl.hard_sharing(keras.Input((32, 32, 3)), [low, high], heads())
    assert model.count_params() == net.count_params() + (1280 + 1) + 2 * (1280 + 1)
    assert len(model.shared_variables) == len(net.trainable_variables)
    with pytest.raises(ValueError, match="no connection around them"):
        keras_mtl.stages_of(net, cuts=["block_2_expand_relu"])
