"""What is shared is counted by variable, through layers that hold others."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl._keras_private import calls_of, maker_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype("float32")
Y = {"a": X[:, :1], "b": X[:, 1:2]}
WORDS = RNG.integers(0, 10, (8, 3))
WORD_LABELS = {"word": WORDS[:, 0], "size": WORDS[:, 1:2] / 10}


def common_in_heads(depth=1):
    """Heads that hold one layer, in models within models."""
    keras.utils.set_random_seed(0)
    common, heads = layers.Dense(3, name="common"), {}
    for task in "ab":
        inner = common
        for level in range(depth):
            inner = keras.Sequential([inner, layers.Dense(2, name=f"{task}{level}")], name=f"{task}_inside{level}")
        heads[task] = [inner, layers.Dense(1, name=f"{task}_out")]
    return keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(6, activation="tanh")], heads), common


class Decode(layers.Layer):
    """Scores of words, by the embedding that the trunk has."""

    def __init__(self, embedding):
        super().__init__(name="decode")
        self.embedding = embedding
        self.build((None, 4))

    def build(self, shape):
        self.bias = self.add_weight(shape=(10,), initializer="zeros", name="bias")

    def call(self, hidden):
        return ops.matmul(hidden, ops.transpose(self.embedding.embeddings)) + self.bias

    def compute_output_shape(self, shape):
        return (shape[0], 10)


def tied(head=Decode):
    keras.utils.set_random_seed(0)
    embedding, inputs = layers.Embedding(10, 4, name="tied"), keras.Input((3,), dtype="int32")
    encoder = keras.Model(inputs, layers.Flatten()(embedding(inputs)), name="encoder")
    stages = [encoder, layers.Dense(4, activation="tanh")]
    model = keras_mtl.hard_sharing(inputs, stages, {"word": head(embedding), "size": layers.Dense(1)})
    return model, embedding


LOSS = {"word": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}


def step_of(model, variable, x, y, loss, **options):
    model.compile(keras.optimizers.SGD(1.0), loss=loss, run_eagerly=True, **options)
    before = variable.numpy()
    model.train_on_batch(x, y)
    return variable.numpy() - before


@pytest.mark.parametrize("depth", [1, 3])
def test_a_layer_within_heads_is_shared(depth):
    model, common = common_in_heads(depth)
    shared = {id(v) for v in model.shared_variables}
    assert {id(common.kernel), id(common.bias)} < shared and len(shared) == 4
    own = [v.path for task in "ab" for v in model.task_variables(task)]
    assert len(own) == 2 * 2 * (depth + 1) and not any("common" in path for path in own)
    found = [layer.name for layer in model.sharing.layers]
    assert found.count("common") == 1 and {"a0", "b0", "a_out", "b_out"} < set(found)
    assert model.sharing.tasks_of(common) == ("a", "b")
    assert model.sharing.tasks_of(model.sharing.layers[found.index("a0")]) == ("a",)


def test_the_summary_counts_a_layer_within_heads_once():
    model, _ = common_in_heads()
    text = []
    model.sharing_summary(text.append)
    rows = {cells[1].strip(): cells[2:-1] for line in text[0].splitlines() if len(cells := line.split("│")) > 3}
    assert [cell.strip() for cell in rows["common"]] == ["21", "●", "●"]
    trunk, common, inner, out = 4 * 6 + 6, 6 * 3 + 3, 3 * 2 + 2, 2 + 1
    assert rows["shared by two tasks or more"][0].strip() == str(trunk + common)
    each = str(trunk + common + inner + out)
    whole = str(trunk + common + 2 * (inner + out))
    assert [cell.strip() for cell in rows["serving the task"]] == [whole, each, each]


@pytest.mark.parametrize(
    "options",
    [
        {"on_nonfinite": "skip_task"},
        {"weighting": keras_mtl.weighting.CAGrad(c=0.0, reduction="sum")},  # the sum of the gradients
    ],
    ids=["skip_task", "cagrad"],
)
@pytest.mark.parametrize("kind", ["heads", "tied"])
def test_shared_variables_get_every_tasks_gradient(kind, options):
    def step(**options):
        if kind == "heads":
            model, common = common_in_heads()
            return step_of(model, common.kernel, X, Y, "mse", **options)
        model, embedding = tied()
        return step_of(model, embedding.embeddings, WORDS, WORD_LABELS, LOSS, **options)

    plain = step()
    assert np.linalg.norm(plain) > 0.1
    np.testing.assert_allclose(step(**options), plain, rtol=1e-4, atol=1e-6)


def test_a_tied_embedding_is_shared():
    model, embedding = tied()
    assert any(v is embedding.embeddings for v in model.shared_variables)
    assert [v.path.split("/")[-1] for v in model.task_variables("word")] == ["bias"]
    with pytest.raises(ValueError, match=r"layer 'word' of one task, which holds .*shared with others"):
        model.compile("sgd", loss=LOSS, weighting="mgda", gradients="features")
    assert not model.sharing.has_features()


@pytest.mark.parametrize("options", [{"weighting": "mgda"}, {"on_nonfinite": "skip_task"}], ids=str)
def test_a_variable_that_reaches_a_task_unseen_is_refused_by_name(options):
    def unseen(common):
        return keras.layers.Lambda(lambda h: ops.matmul(h, common.kernel), output_shape=(3,))

    keras.utils.set_random_seed(0)
    common = layers.Dense(3, use_bias=False, name="common")
    common.build((None, 6))
    heads = {"a": [common, layers.Dense(1)], "b": [unseen(common), layers.Dense(1)]}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(6)], heads)
    model.compile("sgd", loss="mse", run_eagerly=True, **options)
    with pytest.raises(ValueError, match="variable 'common/kernel', which the loss of task 'b' reaches from elsewhere"):
        model.train_on_batch(X, Y)


def test_early_stopping_leaves_a_layer_of_others_alone():
    model, _ = common_in_heads()
    model.compile("sgd", loss="mse", run_eagerly=True)
    stop = keras_mtl.callbacks.TaskEarlyStopping("{task}_loss", mode="min", patience=1, min_delta=1e9)
    stop.set_model(model)
    own = [v.path for v in stop._own("a")]
    assert own and not any("common" in path for path in own)


def test_a_new_task_freezes_the_layer_that_heads_share():
    model, common = common_in_heads()
    model.add_task("c", layers.Dense(1), at=model.layers[1].name, freeze="trunk")
    assert not common.trainable and len(model.task_variables("a")) == 4


def test_halves_leave_the_graph_as_it_is(tmp_path):
    """Inputs that go around the features, into gates, and all layers have the calls that they had."""
    heads = {task: [layers.Dropout(0.5), layers.Dense(1)] for task in "ab"}
    model = keras_mtl.mmoe(keras.Input((4,)), [layers.Dense(3)], heads, experts=2)
    before = {operation.name: len(calls_of(operation)) for operation in model.operations}
    for _ in "12":
        trunk, behind = model.sharing.halves()
    assert {operation.name: len(calls_of(operation)) for operation in model.operations} == before
    assert maker_of(model.inputs[0]).index == 0
    features = tuple(trunk(X))
    for training in (False, True):  # the mode reaches the dropout of the heads
        found = behind((features, ops.convert_to_tensor(X)), training=training)
        equal = [np.allclose(found[task], model(X)[task], atol=1e-6) for task in "ab"]
        assert equal == [not training] * 2
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(X)["a"], model(X)["a"], atol=1e-6)


def test_a_layer_without_variables_in_several_heads_makes_no_shared_features():
    inputs, relu = keras.Input((5,)), keras.layers.ReLU()
    trunk = keras.layers.Dense(4, name="trunk")(inputs)
    outputs = {t: keras.layers.Dense(1)(relu(keras.layers.Dense(3, name=f"{t}_own")(trunk))) for t in "ab"}
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    (feature,) = model.sharing.features()
    assert feature is trunk
    model.compile("sgd", loss="mse", weighting="mgda", gradients="features", run_eagerly=True)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    model.fit(x, {"a": x[:, :1], "b": x[:, 1:2]}, verbose=0)
    assert not [v.path for v in model.trainable_variables if np.array_equal(before[v.path], v.numpy())]
