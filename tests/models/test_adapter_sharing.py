"""Adapters on a frozen trunk: their equations in NumPy, Keras' own LoRA, what trains, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

X = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")


def trunk():
    return [layers.Dense(4, activation="tanh", name="low"), layers.Dense(3, activation="tanh", name="high")]


def build(stages=None, **options):
    heads = {"left": layers.Dense(1, name="left_out"), "right": layers.Dense(2, name="right_out")}
    return keras_mtl.adapter_sharing(keras.Input((5,)), stages or trunk(), heads, **options)


def values(model):
    """Weights by path, drawn anew so that no factor is 0."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape))
    return {v.path: keras.ops.convert_to_numpy(v).astype("float64") for v in model.variables}


def numbers(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.oracle
def test_changes_of_low_rank_are_added_to_the_kernels():
    model = build(rank=2, shared=1, alpha=3.0)
    v = values(model)
    for task in model.tasks:
        h = X.astype("float64")
        for stage in ("low", "high"):
            kernel = v[f"shared/{stage}/kernel"]
            kernel = kernel + 3.0 / 1 * v[f"shared/{stage}_lora/lora/a_1"] @ v[f"shared/{stage}_lora/lora/b_1"]
            kernel = kernel + 3.0 / 2 * v[f"{task}/{stage}_lora/lora/a_1"] @ v[f"{task}/{stage}_lora/lora/b_1"]
            h = np.tanh(h @ kernel + v[f"shared/{stage}/bias"])
        expected = h @ v[f"{task}/{task}_out/kernel"] + v[f"{task}/{task}_out/bias"]
        np.testing.assert_allclose(model(X)[task], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
def test_bottlenecks_follow_the_stages():
    model = build(kind="bottleneck", rank=2, shared=1, activation="relu")
    v = values(model)

    def adapted(h, path):
        hidden = np.maximum(h @ v[f"{path}/down/kernel"] + v[f"{path}/down/bias"], 0)
        return h + hidden @ v[f"{path}/up/kernel"] + v[f"{path}/up/bias"]

    for task in model.tasks:
        h = X.astype("float64")
        for stage in ("low", "high"):
            h = np.tanh(h @ v[f"shared/{stage}/kernel"] + v[f"shared/{stage}/bias"])
            h = adapted(adapted(h, f"shared/{stage}_adapter/adapter"), f"{task}/{stage}_adapter/adapter")
        expected = h @ v[f"{task}/{task}_out/kernel"] + v[f"{task}/{task}_out/bias"]
        np.testing.assert_allclose(model(X)[task], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "bottleneck"])
def test_it_begins_as_the_trunk_and_the_trunk_stays(kind):
    stages = trunk()
    features = keras.Sequential(stages)
    expected = features(X).numpy()
    before = [v.numpy() for v in features.variables]
    model = build(stages, kind=kind, rank=2)
    head = model.get_layer("left").stack[0]
    np.testing.assert_allclose(model(X)["left"], head(expected), rtol=1e-5, atol=1e-6)
    assert not any(stage.trainable for stage in stages)
    model.compile(keras.optimizers.Adam(0.05), loss="mse", run_eagerly=True)
    model.fit(X, {"left": X[:, :1], "right": X[:, :2]}, epochs=3, verbose=0)
    for old, variable in zip(before, features.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    trained = {v.path for v in model.trainable_variables}
    assert {path.split("/")[0] for path in trained} == {"left", "right"}


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("layer", "data"),
    [
        (lambda: layers.Dense(3, activation="relu"), X),
        (lambda: layers.EinsumDense("ab,bcd->acd", output_shape=(2, 3), bias_axes="cd"), X),
        (lambda: layers.Embedding(7, 3), np.arange(6).reshape(2, 3)),
        (lambda: layers.Conv1D(3, 2), X[:, :, None]),
        (lambda: layers.MultiHeadAttention(2, 3), X.reshape(2, 3, 5)),
    ],
    ids=["dense", "einsum", "embedding", "convolution", "attention"],
)
def test_a_task_computes_what_keras_own_lora_computes(layer, data):
    own, plain = layer(), layer()
    inputs = keras.Input(data.shape[1:], dtype=str(data.dtype))
    attention = isinstance(own, layers.MultiHeadAttention)
    if attention:
        own, plain = (keras.Model(inputs, each(inputs, inputs)) for each in (own, plain))
    plain(data)
    model = keras_mtl.adapter_sharing(inputs, [own], {"a": layers.Flatten(), "b": layers.Flatten()}, rank=2)
    stage = next(each for each in model.layers if isinstance(each, keras_mtl.layers.LoRAStage))
    plain.set_weights(own.get_weights())
    rng = np.random.default_rng(0)
    pairs = next(each for each in model.layers if each.name.startswith("a_")).stack[0].pairs
    places = keras_mtl.layers.Stage([plain], "plain").lora_layers()
    assert len(pairs) == len(stage.kernels()) == len(places)
    for place, (a, b) in zip(places, pairs, strict=True):
        place.enable_lora(2)
        for pair, theirs in ((a, "lora_kernel_a"), (b, "lora_kernel_b")):
            pair.assign(0.3 * rng.standard_normal(pair.shape))
            theirs = theirs if hasattr(place, theirs) else theirs.replace("kernel", "embeddings")
            getattr(place, theirs).assign(pair)
    found = model(data)
    expected = np.reshape(plain(data), (len(data), -1))
    np.testing.assert_allclose(found["a"], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found["b"], expected, atol=1e-3)


def test_dropout_in_the_trunk_draws_anew_at_each_step():
    stages = [keras.Sequential([layers.Dense(50), layers.Dropout(0.5, seed=1)])]
    model = build(stages, rank=1)
    first, second = (model(X, training=True)["left"].numpy() for _ in range(2))
    assert not np.allclose(first, second)


def test_shared_adapters_alone_compute_the_trunk_once():
    for kind in ("lora", "bottleneck"):
        model = build(kind=kind, rank=0, shared=2)
        calls = [layer for layer in model.layers if layer.name in ("shared_low", "shared_high")]
        assert [len(layer._inbound_nodes) for layer in calls] == [1, 1]
        model.compile("sgd", loss="mse", weighting="mgda", gradients="features", run_eagerly=True)
        model.fit(X, {"left": X[:, :1], "right": X[:, :2]}, verbose=0)


def test_parameters_are_counted():
    model = build(rank=2)
    heads = (3 + 1) + (3 * 2 + 2)
    assert numbers(model.trainable_variables) == 2 * (2 * (5 + 4) + 2 * (4 + 3)) + heads
    assert numbers(model.variables) - numbers(model.trainable_variables) == (5 * 4 + 4) + (4 * 3 + 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`kind` should be one of"):
        build(kind="prefix")
    with pytest.raises(ValueError, match="`rank`, `shared` or both should be at least 1"):
        build(rank=0)
    with pytest.raises(ValueError, match="`rank` should be an integer of at least 0"):
        build(rank=-1)
    with pytest.raises(ValueError, match="should have a layer with `enable_lora`"):
        build([layers.ReLU()])
    done = layers.Dense(3)
    done.build((None, 5))
    done.enable_lora(2)
    with pytest.raises(ValueError, match=r"`stages\[0\]` should have no LoRA of its own"):
        build([done])
