"""Heads that take what other tasks return: values by hand, gradients, order, shapes and messages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl import Dependency
from tests.models.examples import BUILDERS as EXAMPLES

X = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
Y = {"low": X[:, :1] > 0, "high": X[:, 1:2]}
LOSS = {"low": "binary_crossentropy", "high": "mse"}


def heads():
    low = [layers.Dense(4, activation="tanh", name="hidden"), layers.Dense(1, activation="sigmoid", name="out")]
    return {"low": low, "high": layers.Dense(1, name="out")}


def build(depends_on, builder=keras_mtl.hard_sharing, **options):
    stages = [layers.Dense(6, activation="tanh", name="fc")]
    return builder(keras.Input((5,)), stages, heads(), depends_on=depends_on, **options)


def by_hand(model, taken):
    w = {v.path: v.numpy() for v in model.variables}
    trunk = np.tanh(X @ w["shared/fc/kernel"] + w["shared/fc/bias"])
    hidden = np.tanh(trunk @ w["low/hidden/kernel"] + w["low/hidden/bias"])
    low = 1 / (1 + np.exp(-(hidden @ w["low/out/kernel"] + w["low/out/bias"])))
    beside = {"output": low, "features": hidden}[taken]
    return low, np.concatenate([trunk, beside], -1) @ w["high/out/kernel"] + w["high/out/bias"]


@pytest.mark.oracle
@pytest.mark.parametrize("taken", ["output", "features"])
@pytest.mark.parametrize("stop", [False, True])
def test_values(taken, stop):
    model = build({"high": Dependency("low", taken, stop_gradient=stop)})
    low, high = by_hand(model, taken)
    np.testing.assert_allclose(model(X)["low"], low, rtol=1e-5)
    np.testing.assert_allclose(model(X)["high"], high, rtol=1e-4, atol=1e-6)


def gradients(model, task):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(X)[task])
    found = tape.gradient(value, model.trainable_variables)
    return {v.path for v, g in zip(model.trainable_variables, found, strict=True) if g is not None}


@pytest.mark.parametrize("taken", ["output", "features"])
def test_gradients_go_back_or_stop(taken):
    low = {"low/hidden/kernel", "low/hidden/bias"} | (
        {"low/out/kernel", "low/out/bias"} if taken == "output" else set()
    )
    own = {"shared/fc/kernel", "shared/fc/bias", "high/out/kernel", "high/out/bias"}
    assert gradients(build({"high": Dependency("low", taken)}), "high") == own | low
    stopped = build({"high": Dependency("low", taken, stop_gradient=True)})
    assert gradients(stopped, "high") == own
    assert {v.path for v in stopped.shared_variables} == {"shared/fc/kernel", "shared/fc/bias"}
    assert len(stopped.task_variables("low")) == 4


@pytest.mark.filterwarnings("ignore:Task 'low' had no labelled:UserWarning")
@pytest.mark.parametrize("options", [{}, {"weighting": "mgda", "gradients": "features"}])
@pytest.mark.parametrize("stop", [False, True])
def test_training_without_labels_of_the_task_that_feeds(stop, options):
    model = build({"high": Dependency("low", stop_gradient=stop)})
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, run_eagerly=True, **options)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(X, {"high": Y["high"]}, batch_size=9, verbose=0)
    moved = {v.path for v in model.trainable_variables if np.any(before[v.path] != v.numpy())}
    assert moved == {path for path in before if not (stop and path.startswith("low/"))}


@pytest.mark.parametrize("place", ["parameters", "features", "last_shared"])
def test_task_gradients_where_an_output_feeds_another_task(place):
    """The output is a shared feature and carries a loss at once: its sigmoid has logits that Keras knows of."""
    model = build({"high": "low"})
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, weighting="mgda", gradients=place, run_eagerly=True)
    logs = model.fit(X, Y, batch_size=9, verbose=0).history
    assert logs["low_grad_norm"][0] > 0 and logs["high_grad_norm"][0] > 0
    assert logs["low_weight"][0] + logs["high_weight"][0] == pytest.approx(1, abs=1e-5)
    assert {"low/out/kernel", "shared/fc/kernel"} <= {v.path for v in model.shared_variables}


def test_plain_models_with_stopped_gradients_are_read_too():
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, name="trunk")(inputs)
    first = layers.Dense(1, name="first")(hidden)
    second = layers.Dense(1, name="second")(layers.Concatenate()([hidden, keras.ops.stop_gradient(first)]))
    model = keras_mtl.MultiTaskModel(inputs, {"first": first, "second": second})
    assert [v.path for v in model.shared_variables] == ["trunk/kernel", "trunk/bias"]
    assert model.sharing.feeds(model.get_layer("first")) == ("first", "second")
    lines = []
    model.sharing_summary(lines.append)
    assert "○" in lines[0] and "takes from it, and does not train it" in lines[0]


def test_chains_are_placed_in_the_order_of_their_dependencies():
    tasks = {task: layers.Dense(2, name="out") for task in ("c", "b", "a")}
    depends_on = {"c": ["b", Dependency("a")], "b": "a"}
    model = keras_mtl.hard_sharing(keras.Input((5,)), [layers.Dense(6)], tasks, depends_on=depends_on)
    assert model.tasks == ("c", "b", "a")
    widths = {task: model.get_layer(task).stack[0].kernel.shape[0] for task in model.tasks}
    assert widths == {"c": 6 + 2 + 2, "b": 6 + 2, "a": 6}


BUILDERS = {
    "hard_sharing": {},
    "soft_sharing": {},
    "cross_stitch": {},
    "sluice": {},
    "nddr": {},
    "mtan": {},
    "mmoe": {"experts": 2},
    "omoe": {"experts": 2},
    "cgc": {},
    "ple": {},
    "dselect_k": {"experts": 2},
    "branched_sharing": {"branches": [[["low"], ["high"]]]},
    "hierarchical_sharing": {"depths": {}},
    "esmm": {},
}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_takes_dependencies(name):
    plain = {"low": layers.Dense(1, name="out"), "high": layers.Dense(1, name="out")}
    stages = [layers.Dense(6, activation="tanh", name="fc")]
    embedding = Dependency("low", through=layers.Dense(3, name="embed"))
    builder, _ = EXAMPLES[name]
    model = builder(keras.Input((5,)), stages, plain, depends_on={"high": embedding}, **BUILDERS[name])
    assert model.get_layer("high").stack[0].kernel.shape == (6 + 3, 1)
    assert "high/from_low/embed/kernel" in {v.path for v in model.trainable_variables}


def sequences(depends_on, pooled=True):
    stages = [layers.Embedding(20, 4, mask_zero=True), layers.GRU(6, return_sequences=True)]
    sentence = [layers.GlobalAveragePooling1D(), layers.Dense(2)] if pooled else layers.GlobalAveragePooling1D()
    tasks = {"tag": layers.Dense(3, activation="softmax"), "sentence": sentence}
    return keras_mtl.hard_sharing(keras.Input((None,), dtype="int32"), stages, tasks, depends_on=depends_on)


def test_a_vector_beside_a_sequence_is_there_at_every_position():
    model = sequences({"tag": Dependency("sentence", stop_gradient=True)})
    assert model.get_layer("tag").stack[0].kernel.shape == (6 + 2, 3)
    ids = np.array([[3, 4, 5, 0], [6, 0, 0, 0]])
    assert model(ids)["tag"].shape == (2, 4, 3)
    joined = keras.Model(model.input, model.get_layer("tag_join").output)(ids)
    for position in range(4):
        np.testing.assert_allclose(joined[:, position, 6:], model(ids)["sentence"], rtol=1e-6)
    np.testing.assert_array_equal(joined._keras_mask, ids != 0)


def test_a_sequence_becomes_a_vector_by_pooling():
    model = sequences({"sentence": Dependency("tag", through=layers.GlobalAveragePooling1D())}, pooled=True)
    assert model(np.array([[3, 4, 5]]))["sentence"].shape == (1, 2)


def test_images_and_vectors():
    stage = layers.Conv2D(4, 3, padding="same")
    tasks = {"mask": layers.Conv2D(1, 1), "kind": [layers.GlobalAveragePooling2D(), layers.Dense(3)]}
    model = keras_mtl.hard_sharing(keras.Input((8, 8, 1)), [stage], tasks, depends_on={"mask": "kind", "kind": []})
    assert model(np.ones((2, 8, 8, 1), "float32"))["mask"].shape == (2, 8, 8, 1)


BAD = [
    ({"high": "high"}, "`depends_on` of task 'high' should name other tasks"),
    ({"high": "up"}, "`depends_on` of task 'high' should name other tasks"),
    ({"high": 3}, "`depends_on` of task 'high' should name other tasks"),
    ({"up": "low"}, "keys of `depends_on` should be tasks"),
    ("low", "`depends_on` should be a dict"),
    ({"high": ["low", Dependency("low", "features")]}, "name each task once"),
    ({"high": "low", "low": "high"}, "no circle. Received: low -> high -> low"),
    ({"low": Dependency("high", "features")}, "the head of 'high' has one layer"),
    ({"high": Dependency("low", through="mean")}, "`through` of task 'high' should be a Keras layer"),
]


@pytest.mark.parametrize(("depends_on", "message"), BAD)
def test_bad_dependencies(depends_on, message):
    with pytest.raises(ValueError, match=message):
        build(depends_on)


def test_bad_options_and_shapes():
    with pytest.raises(ValueError, match="`take` should be 'output' or 'features'"):
        Dependency("low", take="logits")
    with pytest.raises(ValueError, match="`stop_gradient` should be True or False"):
        Dependency("low", stop_gradient="yes")
    with pytest.raises(ValueError, match=r"What task 'sentence' takes .* should fit its own features"):
        keras_mtl.hierarchical_sharing(
            keras.Input((7, 4)),
            [layers.GRU(6, return_sequences=True), layers.GRU(6)],
            {"tag": layers.Dense(3), "sentence": layers.Dense(2)},
            depths={"tag": 1},
            depends_on={"sentence": "tag"},
        )
    two = {"x": layers.Concatenate(), "y": layers.Add()}
    with pytest.raises(ValueError, match="head of task 'y' should take one tensor"):
        keras_mtl.hard_sharing([keras.Input((3,)), keras.Input((3,))], [], two, depends_on={"y": "x"})
