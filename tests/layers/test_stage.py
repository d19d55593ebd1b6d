"""Keras' own tools on the layers within stages."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def build(depth=None):
    return keras_mtl.hard_sharing(
        keras.Input((4,)),
        [[layers.Dense(5, name="fc"), layers.ReLU(name="relu")], layers.Dense(3, name="up")],
        {"a": layers.Dense(1, name="out"), "b": layers.Dense(1, name="out")},
        shared_depth=depth,
    )


def test_a_summary_shows_what_is_within():
    lines = []
    build().summary(expand_nested=True, print_fn=lines.append)
    assert all(f"{name} (" in "\n".join(lines) for name in ("fc", "relu", "up", "out"))


def test_get_layer_finds_layers_of_stages_by_name():
    model = build(depth=1)
    stage = model.get_layer("shared_stage_1")
    assert model.get_layer("fc") is stage.get_layer("fc") is stage.get_layer(index=0) is stage.layers[0]
    assert model.get_layer(index=1) is stage
    with pytest.raises(ValueError, match=r"'up', which stands in .'a_up', 'b_up'"):
        model.get_layer("up")
    with pytest.raises(ValueError, match=r"No such layer: none"):
        model.get_layer("none")
    with pytest.raises(ValueError, match=r"which layer of stage 'shared_stage_1' is meant: .'fc', 'relu'"):
        stage.get_layer("up")
    with pytest.raises(AttributeError, match=r"no attribute 'kernel'; its layers .'fc'. have"):
        stage.kernel  # noqa: B018
    with pytest.raises(ValueError, match=r"No such layer: fc"):  # a head cannot start within a stage
        model.add_task("c", layers.Dense(1), at="fc")


def test_a_change_of_low_rank_trains_alone_and_is_saved(tmp_path):
    model = build()
    before = model(X)["a"]
    for stage in ("shared_stage_1", "shared_up"):
        model.get_layer(stage).enable_lora(2)
    np.testing.assert_allclose(model(X)["a"], before, rtol=1e-6)
    kernel = np.asarray(model.get_layer("up")._kernel)
    assert "shared/up/lora_kernel_a" in [v.path for v in model.shared_variables]
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(X, {"a": X[:, :1], "b": X[:, 1:2]}, verbose=0)
    np.testing.assert_array_equal(model.get_layer("up")._kernel, kernel)
    after = model(X)["a"]
    assert np.abs(after - before).max() > 0
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(X)["a"], after, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"should have a layer with `enable_lora`"):
        keras_mtl.layers.Stage([layers.ReLU(name="relu")], scope="shared").enable_lora(2)
