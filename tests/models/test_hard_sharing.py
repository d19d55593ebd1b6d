"""Hard sharing: depths, copies, kinds of inputs and outputs, and the textbook example."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from tests.rows import by_default

RNG = np.random.default_rng(0)


def conv_stages():
    return [
        [layers.Conv2D(4, 3, activation="relu", name="conv1"), layers.MaxPooling2D(2)],
        [layers.Conv2D(6, 3, activation="relu", name="conv2"), layers.Flatten()],
        layers.Dense(8, activation="relu", name="fc"),
    ]


def dense_stages(**options):
    return [layers.Dense(width, activation="tanh", name=f"fc{i}", **options) for i, width in enumerate((7, 6, 5))]


def two_heads():
    return {"a": layers.Dense(1, name="out"), "b": layers.Dense(3, activation="softmax", name="out")}


def parameters(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def test_the_textbook_example_exactly():
    """Two softmax heads on one Dense(128), as in the functional API guide, weight for weight and step for step."""
    model = keras_mtl.hard_sharing(
        inputs=keras.Input((20,)),
        stages=[layers.Dense(128, activation="relu")],
        heads={"main": layers.Dense(10, activation="softmax"), "aux": layers.Dense(5, activation="softmax")},
    )
    inputs = keras.Input((20,))
    shared = layers.Dense(128, activation="relu")(inputs)
    outputs = {
        "main": layers.Dense(10, activation="softmax")(shared),
        "aux": layers.Dense(5, activation="softmax")(shared),
    }
    plain = keras.Model(inputs, outputs)
    assert [v.shape for v in model.weights] == [v.shape for v in plain.weights]
    assert model.count_params() == plain.count_params() == 20 * 128 + 128 + 128 * 15 + 15
    plain.set_weights(model.get_weights())
    x = RNG.normal(size=(32, 20)).astype("float32")
    y = {"main": np.eye(10)[RNG.integers(0, 10, 32)], "aux": np.eye(5)[RNG.integers(0, 5, 32)]}
    histories = []
    for one in (model, plain):
        one.compile("adam", loss="categorical_crossentropy" if one is model else dict.fromkeys(y, "crossentropy"))
        histories.append(one.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history)
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-5)
    for v, w in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)
    assert len(model.shared_variables) == 2 and parameters(model.shared_variables) == 20 * 128 + 128


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3])
def test_parameters_by_depth(depth):
    """A depth of d holds the first d stages once and the rest once for each task."""
    sizes = [4 * 7 + 7, 7 * 6 + 6, 6 * 5 + 5]
    model = keras_mtl.hard_sharing(keras.Input((4,)), dense_stages(), two_heads(), shared_depth=depth)
    shared = 3 if depth is None else depth
    assert parameters(model.shared_variables) == sum(sizes[:shared])
    own = sum(sizes[shared:])
    assert parameters(model.task_variables("a")) == own + 6
    assert parameters(model.task_variables("b")) == own + 18
    assert model.count_params() == sum(sizes[:shared]) + 2 * own + 24
    scopes = {"shared"} if shared else set()
    assert {v.path.split("/")[0] for v in model.weights} == scopes | {"a", "b"}


def test_depth_0_trains_as_single_task_models_do():
    model = keras_mtl.hard_sharing(keras.Input((4,)), dense_stages(), two_heads(), shared_depth=0)
    x = RNG.normal(size=(20, 4)).astype("float32")
    y = {"a": RNG.normal(size=20).astype("float32"), "b": RNG.integers(0, 3, 20)}
    loss = {"a": "mse", "b": "sparse_categorical_crossentropy"}
    alone = {}
    for task, head in two_heads().items():
        inputs = out = keras.Input((4,))
        for layer in [*dense_stages(), head]:
            out = layer(out)
        alone[task] = keras.Model(inputs, out)
        assert [v.shape for v in alone[task].weights] == [v.shape for v in model.task_model(task).weights]
        assert alone[task].count_params() == parameters(model.task_variables(task))
        alone[task].set_weights(model.task_model(task).get_weights())
    model.compile(keras.optimizers.Adam(0.01), loss=loss, run_eagerly=True)
    options = dict(batch_size=8, shuffle=False, verbose=0)
    history = model.fit(x, y, **options).history
    for task, single in alone.items():
        single.compile(keras.optimizers.Adam(0.01), loss=loss[task], run_eagerly=True)
        assert single.fit(x, y[task], **options).history["loss"] == pytest.approx(history[f"{task}_loss"], rel=1e-5)
        for v, w in zip(model.task_model(task).weights, single.weights, strict=True):
            np.testing.assert_allclose(v, w, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "initializer",
    [
        None,
        keras.initializers.HeNormal(seed=3),
        keras.initializers.Orthogonal(),
        {"class_name": "GlorotUniform", "config": {"seed": 5}},
    ],
    ids=["default", "seeded", "unseeded_instance", "config"],
)
def test_copies_never_start_equal(initializer):
    options = {} if initializer is None else {"kernel_initializer": initializer}
    block = keras.Sequential([layers.Dense(4, name="x", **options), layers.Dense(4, name="y", **options)], name="block")
    model = keras_mtl.hard_sharing(keras.Input((4,)), [block], two_heads(), shared_depth=0)
    kernels = {v.path: v.numpy() for v in model.weights if v.path.endswith(("x/kernel", "y/kernel"))}
    assert set(kernels) == {f"{task}/block/{name}/kernel" for task in "ab" for name in "xy"}
    for name in "xy":
        a, b = (kernels[f"{task}/block/{name}/kernel"] for task in "ab")
        assert np.abs(a - b).min() > 0


def test_copies_drop_with_seeds_of_their_own():
    stages = [layers.Dropout(0.5, seed=3)]
    heads = {task: layers.Activation("linear") for task in "ab"}
    model = keras_mtl.hard_sharing(keras.Input((100,)), stages, heads, shared_depth=0)
    out = model(np.ones((4, 100), "float32"), training=True)
    different = (out["a"].numpy() > 0) != (out["b"].numpy() > 0)
    assert 0.3 < different.mean() < 0.7  # independent masks differ in half of the places


def test_one_seed_reproduces_a_whole_model():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        stages = dense_stages(kernel_initializer="he_uniform")
        return keras_mtl.hard_sharing(keras.Input((4,)), stages, two_heads(), shared_depth=1).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or np.abs(a - c).max() > 0


def test_explicit_seeds_reproduce_whatever_the_global_one():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        stages = dense_stages(kernel_initializer=keras.initializers.GlorotUniform(seed=9))
        model = keras_mtl.hard_sharing(keras.Input((4,)), stages, two_heads(), shared_depth=0)
        return [v.numpy() for v in model.weights if "/fc" in v.path]

    for a, b in zip(weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_copy_weights_starts_from_the_given_stages():
    backbone = keras.Sequential([keras.Input((4,)), layers.Dense(7, name="x"), layers.BatchNormalization(name="n")])
    backbone.layers[1].set_weights([RNG.normal(size=s) ** 2 for s in [(7,)] * 4])
    stages = list(backbone.layers)
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, two_heads(), shared_depth=0, copy_weights=True)
    expected = {f"{layer.name}/{v.name}": v.numpy() for layer in stages for v in layer.weights}
    for task in "ab":
        for name, value in expected.items():
            (v,) = (v for v in model.weights if v.path == f"{task}/{name}")
            np.testing.assert_array_equal(v, value)
            assert not any(v is given for given in backbone.weights)
    with pytest.raises(ValueError, match=r"`copy_weights=True` needs stages that have weights.*layer 'raw'.*not built"):
        keras_mtl.hard_sharing(
            keras.Input((4,)), [layers.Dense(3, name="raw")], two_heads(), shared_depth=0, copy_weights=True
        )


def test_shared_stages_are_the_very_layers():
    stages = dense_stages()
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, two_heads(), shared_depth=2)
    assert all(any(v is w for w in model.shared_variables) for layer in stages[:2] for v in layer.weights)
    assert not stages[2].built


@keras.saving.register_keras_serializable("tests")
class Join(layers.Layer):
    """Takes a dict or a list of two inputs."""

    def call(self, inputs):
        left, right = (inputs["left"], inputs["right"]) if isinstance(inputs, dict) else inputs
        return keras.ops.concatenate([left, 2 * right], axis=-1)


@pytest.mark.parametrize(
    ("structure", "depth"), by_default([("dict", 0), ("list", 2)], [("dict", 2), ("dict", 0), ("list", 2), ("list", 0)])
)
def test_several_inputs(structure, depth, tmp_path):
    inputs = {"left": keras.Input((3,), name="left"), "right": keras.Input((2,), name="right")}
    x = {"left": RNG.normal(size=(8, 3)).astype("float32"), "right": RNG.normal(size=(8, 2)).astype("float32")}
    if structure == "list":
        inputs, x = list(inputs.values()), list(x.values())
    model = keras_mtl.hard_sharing(inputs, [Join(), layers.Dense(4)], two_heads(), shared_depth=depth)
    y = {"a": RNG.normal(size=8), "b": RNG.integers(0, 3, 8)}
    model.compile("sgd", loss={"a": "mse", "b": "sparse_categorical_crossentropy"}, run_eagerly=True)
    model.fit(x, y, verbose=0)
    before = model(x)
    model.save(tmp_path / "m.keras")
    after = keras.models.load_model(tmp_path / "m.keras")(x)
    alone = model.task_model("b")(x)
    for task in "ab":
        np.testing.assert_array_equal(before[task], after[task])
    np.testing.assert_allclose(alone, before["b"], rtol=1e-6)


def test_images_in_and_every_kind_of_output():
    heads = {
        "vector": [layers.Flatten(), layers.Dense(3)],
        "image": layers.Conv2D(2, 1),
        "sequence": [layers.Reshape((-1, 8)), layers.Dense(5)],
    }
    model = keras_mtl.hard_sharing(keras.Input((6, 6, 1)), [layers.Conv2D(8, 3, padding="same")], heads)
    assert {t: tuple(o.shape) for t, o in model.output.items()} == {
        "vector": (None, 3),
        "image": (None, 6, 6, 2),
        "sequence": (None, 36, 5),
    }
    x = RNG.normal(size=(4, 6, 6, 1)).astype("float32")
    y = {t: RNG.normal(size=(4, *o.shape[1:])).astype("float32") for t, o in model.output.items()}
    for weighting in ("equal", "mgda"):
        model.compile("sgd", loss="mse", weighting=weighting, run_eagerly=True)
        p = model.predict(x, verbose=0)
        logs = model.evaluate(x, y, verbose=0, return_dict=True)
        for task in y:
            assert logs[f"{task}_loss"] == pytest.approx(float(((p[task] - y[task]) ** 2).mean()), rel=1e-5)
        model.fit(x, y, verbose=0)


def test_sequences_in_with_masks():
    """A mask passes through shared stages and columns alike."""
    for depth in (2, 1):
        stages = [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(5, return_sequences=True)]
        heads = {"topic": [layers.LSTM(3), layers.Dense(2)], "tag": layers.Dense(2)}
        model = keras_mtl.hard_sharing(keras.Input((None,), dtype="int32"), stages, heads, shared_depth=depth)
        short, padded = np.array([[3, 4, 5]]), np.array([[3, 4, 5, 0, 0]])
        np.testing.assert_allclose(model(short)["topic"], model(padded)["topic"], rtol=1e-5)
        assert model(padded)["tag"]._keras_mask.numpy().tolist() == [[True, True, True, False, False]]


def test_the_digits_example_of_the_readme_shape():
    heads = {"left": layers.Dense(10), "right": layers.Dense(10)}
    model = keras_mtl.hard_sharing(keras.Input((14, 14, 1)), conv_stages(), heads, shared_depth=2)
    shared = (9 * 4 + 4) + (4 * 9 * 6 + 6)
    own = (16 * 6 * 8 + 8) + (8 * 10 + 10)
    assert model.count_params() == shared + 2 * own


@pytest.mark.parametrize(
    "layer", [layers.GlobalAveragePooling1D(), keras.Sequential([keras.Input((3,)), layers.Dense(2)])]
)
def test_a_layer_without_anything_to_build_says_early_what_does_not_fit(layer):
    with pytest.raises(ValueError, match="should take what comes before it"):
        keras_mtl.hard_sharing(keras.Input((5,)), [layers.Dense(4), layer], {"a": layers.Dense(1)})


@keras.saving.register_keras_serializable(package="tests")
class Box(layers.Layer):
    """A head of two outputs."""

    def __init__(self, kind=dict, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.centre, self.size = layers.Dense(2), layers.Dense(2)

    def call(self, inputs):
        centre, size = self.centre(inputs), self.size(inputs)
        return {"centre": centre, "size": size} if self.kind is dict else self.kind((centre, size))


@pytest.mark.parametrize(
    ("kind", "says"), [(dict, r"\['centre', 'size'\]"), (tuple, "a tuple of 2"), (list, "a list of 2")]
)
@pytest.mark.parametrize("builder", [keras_mtl.hard_sharing, keras_mtl.cross_stitch, keras_mtl.mmoe])
def test_a_head_of_several_outputs_is_refused_by_its_task(builder, kind, says):
    given = {"box": Box(kind), "b": layers.Dense(1)}
    with pytest.raises(ValueError, match=f"head of task 'box' should return one tensor. Received: .*{says}.*Make each"):
        builder(keras.Input((4,)), [layers.Dense(3)], given, **({"experts": 2} if builder is keras_mtl.mmoe else {}))
