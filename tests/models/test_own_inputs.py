"""Models whose tasks have inputs of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl

L = keras.layers


def stages():
    return [[L.Dense(6, activation="relu", name="low")], [L.Dense(5, activation="relu", name="high")]]


def heads():
    return {task: L.Dense(1) for task in "ab"}


BUILDERS = {
    "hard_sharing": lambda x: keras_mtl.hard_sharing(x, stages(), heads(), shared_depth=1),
    "cross_stitch": lambda x: keras_mtl.cross_stitch(x, stages(), heads()),
    "mmoe": lambda x: keras_mtl.mmoe(x, stages(), heads(), experts=2),
}


@pytest.mark.parametrize("builder", BUILDERS)
def test_outputs_are_those_of_the_tasks_own_inputs(builder):
    model = BUILDERS[builder](keras.Input((4,)))
    apart = keras_mtl.own_inputs(model)
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    found = apart({"a_input": first, "b_input": second})
    np.testing.assert_allclose(found["a"], model(first)["a"], rtol=1e-6)
    np.testing.assert_allclose(found["b"], model(second)["b"], rtol=1e-6)
    assert {id(v) for v in apart.trainable_variables} == {id(v) for v in model.trainable_variables}
    assert list(apart.task_model("a").input) == ["a_input"]


def test_shared_layers_stay_shared_and_columns_own():
    model = BUILDERS["hard_sharing"](keras.Input((4,)))
    apart = keras_mtl.own_inputs(model)
    assert [v.path for v in apart.shared_variables] == [v.path for v in model.shared_variables]
    assert [v.path for v in apart.task_variables("a")] == [v.path for v in model.task_variables("a")]


def test_several_inputs_get_the_tasks_names():
    x, z = keras.Input((4,), name="x"), keras.Input((2,), name="z")
    trunk = L.Dense(3)
    model = keras_mtl.MultiTaskModel(
        {"x": x, "z": z}, {"a": L.Dense(1)(trunk(x)), "b": L.Dense(1)(L.Concatenate()([trunk(x), z]))}
    )
    assert sorted(keras_mtl.own_inputs(model).input) == ["a_x", "b_x", "b_z"]


@pytest.mark.parametrize("weighting", ["equal", "pcgrad"])
def test_trains_saves_and_loads(weighting, tmp_path):
    apart = keras_mtl.own_inputs(BUILDERS["hard_sharing"](keras.Input((4,))))
    apart.compile("sgd", loss="mse", weighting=weighting, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    data = {"a_input": x, "b_input": -x}, {"a": x[:, :1], "b": x[:, 1:2]}
    apart.fit(*data, epochs=2, verbose=0)
    apart.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.evaluate(*data, verbose=0) == pytest.approx(apart.evaluate(*data, verbose=0))


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: L.MaxPooling1D()(x),
        lambda x: L.LSTM(3, return_sequences=True)(x),
        lambda x: L.GRU(3, return_sequences=True)(x),
        lambda x: L.MultiHeadAttention(2, 3)(x, x),
        lambda x: L.LayerNormalization()(x),
        lambda x: L.GroupNormalization(2)(x),
        lambda x: L.Dropout(0.5)(x),
        lambda x: keras_mtl.layers.SafeBatchNormalization()(x),
    ],
    ids=[
        "pooling",
        "lstm",
        "gru",
        "attention",
        "layer norm",
        "group norm",
        "dropout",
        "safe norm",
    ],
)
def test_layers_bear_empty_batches(layer):
    """Forward and backward, in a graph, as an absent task's columns see them."""
    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, L.Dense(1)(L.GlobalAveragePooling1D()(layer(inputs))))

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 4))], autograph=False)
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True))
        return tape.gradient(loss, model.trainable_variables)

    for gradient in gradients(tf.zeros((0, 8, 4))):
        assert np.all(np.array(gradient) == 0)


def test_features_that_tasks_do_not_have_in_common_are_refused():
    apart = keras_mtl.own_inputs(BUILDERS["hard_sharing"](keras.Input((4,))))
    for options in (
        {"weighting": "mgda", "gradients": "features"},
        {"weighting": "mgda", "gradients": "last_shared"},
        {"weighting": "mgda", "gramian_fraction": 0.5},
        {"weighting": keras_mtl.weighting.MGDA(every=2)},
    ):
        argument = [*options][-1].replace("weighting", "every")
        with pytest.raises(ValueError, match=rf"`{argument}` should be .* which tasks call on inputs of their own"):
            apart.compile("adam", loss="mse", **options)


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_a_task_can_be_left_out_where_there_are_no_features(weighting):
    """Gradients of single tasks are then those of the parameters."""
    model = keras_mtl.own_inputs(BUILDERS["hard_sharing"](keras.Input((4,))))
    model.compile("sgd", loss="mse", weighting=weighting, on_nonfinite="skip_task", run_eagerly=True)
    x, bad = np.ones((4, 4), "float32"), np.full((4, 1), np.inf, "float32")
    own = [v.numpy() for v in model.task_variables("b")]
    shared = [v.numpy() for v in model.shared_variables]
    logs = model.train_on_batch({"a_input": x, "b_input": x}, {"a": x[:, :1], "b": bad}, return_dict=True)
    assert logs["b_nonfinite"] == 1 and np.isfinite(logs["loss"])
    assert all(np.array_equal(v, old) for v, old in zip(model.task_variables("b"), own, strict=True))
    assert any(not np.array_equal(v, old) for v, old in zip(model.shared_variables, shared, strict=True))
