"""Cutting functional backbones into stages."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from tests.rows import by_default

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
    ("cuts", "says"),
    [
        (["d", "c"], "passed one after the other.*'c' comes before a cut that stands before it"),
        (["c", "c"], "passed one after the other"),
        (["x"], "`cuts` should name layers of model 'small'. Received: 'x'; layers: .*'a', 'b'"),
    ],
)
def test_cuts_that_do_not_part_the_model(cuts, says):
    with pytest.raises(ValueError, match=says):
        keras_mtl.stages_of(backbone(), cuts=cuts)


def test_layers_that_are_called_twice_are_not_parted():
    inputs, twice = keras.Input((6,)), layers.Dense(6, name="twice")
    model = keras.Model(inputs, twice(layers.Dense(6, name="between")(twice(inputs))))
    with pytest.raises(ValueError, match="layer 'twice' is called on both sides"):
        keras_mtl.stages_of(model, cuts=["between"])
    with pytest.raises(ValueError, match="'twice', which it calls 2 times"):
        keras_mtl.stages_of(model, cuts=["twice"])
    with pytest.raises(ValueError, match=r"`model` should be a functional `keras.Model`"):
        keras_mtl.stages_of(keras.Sequential([layers.Dense(3, name="a")]), cuts=["a"])


@pytest.mark.parametrize(
    ("around", "cuts", "passing"),
    [
        (True, ["c"], [{"a", "c"}]),
        (False, ["b"], [{"a", "b"}]),
        (True, ["b", "d"], [{"a", "b"}, {"a", "d"}]),
    ],
)
def test_skips_pass_a_cut_by_name(around, cuts, passing):
    model = backbone(around)
    stages = keras_mtl.stages_of(model, cuts=cuts)
    assert [set(stage.output) for stage in stages[:-1]] == passing
    out = X
    for stage in stages:
        out = stage(out)
    np.testing.assert_allclose(out, model(X), rtol=1e-6)
    assert {id(v) for stage in stages for v in stage.weights} == {id(v) for v in model.weights}


def encoder():
    """Two blocks of attention that look at the padding mask, as an encoder of text has them."""
    ids = keras.Input((5,), dtype="int32", name="token_ids")
    padding = keras.Input((5,), dtype="int32", name="padding_mask")
    x = layers.Embedding(20, 4, name="tokens")(ids)
    for block in ("low", "high"):
        seen = layers.MultiHeadAttention(1, 4, name=f"{block}_attention")(x, x, attention_mask=padding[:, None, :])
        x = layers.LayerNormalization(name=block)(layers.Add()([x, seen]))
    return keras.Model({"token_ids": ids, "padding_mask": padding}, x, name="encoder")


TEXT = {
    "token_ids": np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], "int32"),
    "padding_mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32"),
}


@pytest.mark.parametrize("depth", by_default([1], [0, 1, 2]))
def test_encoders_share_some_of_their_depth_and_masks_go_along(depth, tmp_path):
    given = encoder()
    stages = keras_mtl.stages_of(given, cuts=["low"])
    low = stages[0](TEXT)
    assert set(low) == {"low", "padding_mask"}
    np.testing.assert_allclose(stages[1](low), given(TEXT), rtol=1e-6)
    inputs = {name: keras.Input((5,), dtype="int32", name=name) for name in TEXT}
    model = keras_mtl.hard_sharing(
        inputs,
        stages,
        {task: layers.Lambda(lambda x: x[:, 0], name="first", output_shape=(4,)) for task in "ab"},
        shared_depth=depth,
        copy_weights=True,
    )
    expected = given(TEXT)[:, 0]
    for task, found in model(TEXT).items():
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=task)
    other = {**TEXT, "token_ids": np.where(TEXT["padding_mask"] == 1, TEXT["token_ids"], 19)}
    np.testing.assert_allclose(model(other)["a"], expected, rtol=1e-5)  # what is masked is not seen


@pytest.mark.parametrize("place", ["parameters", "features"])
def test_task_gradients_behind_a_cut_with_a_mask(place):
    inputs = {name: keras.Input((5,), dtype="int32", name=name) for name in TEXT}
    pooled = {task: [layers.GlobalAveragePooling1D(), layers.Dense(1)] for task in "ab"}
    model = keras_mtl.hard_sharing(inputs, keras_mtl.stages_of(encoder(), cuts=["low"]), pooled, shared_depth=1)
    model.compile("sgd", "mse", weighting="mgda", gradients=place, run_eagerly=True)
    before = [np.asarray(v) for v in model.shared_variables]
    model.fit(TEXT, {"a": np.ones((2, 1)), "b": np.zeros((2, 1))}, verbose=0)
    assert any(np.abs(np.asarray(v) - old).max() > 0 for v, old in zip(model.shared_variables, before, strict=True))


def test_a_net_whose_halves_are_joined_by_a_skip_is_cut_in_the_middle():
    inputs = keras.Input((4, 4, 1))
    down = layers.Conv2D(2, 3, padding="same", name="down")(inputs)
    middle = layers.Conv2D(3, 3, padding="same", name="middle")(layers.MaxPooling2D(name="pool")(down))
    up = layers.Concatenate()([layers.UpSampling2D()(middle), down])
    net = keras.Model(inputs, layers.Conv2D(1, 1, name="last")(up))
    stages = keras_mtl.stages_of(net, cuts=["pool", "middle"])
    assert [set(stage.output) for stage in stages[:-1]] == [{"pool", "down"}, {"middle", "down"}]
    image = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    model = keras_mtl.hard_sharing(
        keras.Input((4, 4, 1)),
        stages,
        {"a": layers.Identity(), "b": layers.Conv2D(1, 1)},
        shared_depth=2,
        copy_weights=True,
    )
    np.testing.assert_allclose(model(image)["a"], net(image), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"`stages.0.` should return one tensor.*'pool', 'down'"):
        keras_mtl.cross_stitch(
            keras.Input((4, 4, 1)), keras_mtl.stages_of(net, cuts=["pool"]), heads(), copy_weights=False
        )


def test_all_outputs_of_a_backbone_come_out_of_its_last_stage():
    inputs = keras.Input((6,))
    sequence = layers.Dense(4, name="sequence")(inputs)
    net = keras.Model(inputs, {"sequence": sequence, "pooled": layers.Dense(2, name="pooled")(sequence)})
    first, last = keras_mtl.stages_of(net, cuts=["sequence"])
    for name, value in last(first(X)).items():
        np.testing.assert_allclose(value, net(X)[name], rtol=1e-6)


def test_pretrained_columns_and_paths_before_and_after_loading(tmp_path):
    stages = keras_mtl.stages_of(backbone(), cuts=["c"])
    stages[1](stages[0](X))
    model = keras_mtl.hard_sharing(keras.Input((6,)), stages, heads(), shared_depth=1, copy_weights=True)
    source = {v.path: v.numpy() for v in stages[1].weights}
    for task in ("one", "two"):
        copies = {v.path: v.numpy() for v in model.task_variables(task)}
        for path, value in source.items():
            np.testing.assert_array_equal(copies[f"{task}/{path}"], value)
    model.compile("sgd", loss="mse", run_eagerly=True)
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
    low, high = keras_mtl.stages_of(net, cuts=["block_2_expand_relu"])
    assert set(low.output) == {"block_2_expand_relu", "block_1_project_BN"}  # the skip of block 2 goes along
    np.testing.assert_allclose(high(low(x)), net(x), rtol=1e-4, atol=1e-6)
