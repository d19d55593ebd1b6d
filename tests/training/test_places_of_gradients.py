"""Which Gramian each place of task gradients gives, whose gradient heads get, and inputs of other kinds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.training.backends.tensorflow import first_rows, rows_apart
from keras_mtl.training.places import PLACES
from keras_mtl.weighting import CAGrad

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
Y = {task: RNG.normal(size=(6, 1)).astype("float32") for task in ("low", "high", "high2")}
SUM = {"c": 0.0, "reduction": "sum"}  # CAGrad of these is the sum of the task gradients


def two_depths():
    keras.utils.set_random_seed(0)
    stages = [layers.Dense(3, name="s1"), layers.Dense(2, name="s2")]
    return keras_mtl.hierarchical_sharing(
        keras.Input((4,)), stages, {task: layers.Dense(1) for task in Y}, depths={"low": 1}
    )


def kernels(model):
    return {v.path: v.numpy().astype("float64") for v in model.trainable_variables if v.path.endswith("kernel")}


def task_gradients_by_hand(model):
    """`dL_k/dz1` and `dL_k/dz2` of linear layers, the first one's with what flows through the second."""
    found = kernels(model)
    s1, s2 = (next(value for path, value in found.items() if f"{name}/kernel" in path) for name in ("s1", "s2"))
    heads = {task: next(value for path, value in found.items() if path.startswith(f"{task}/")) for task in Y}
    z1 = X @ s1
    z2, of_z1, of_z2 = z1 @ s2, {}, {}
    for task, head in heads.items():
        features = z1 if task == "low" else z2
        slope = 2 * (features @ head - Y[task]) / len(X) @ head.T
        of_z2[task] = np.zeros_like(z2) if task == "low" else slope
        of_z1[task] = slope if task == "low" else slope @ s2.T
    return z1, of_z1, of_z2


def gramian_of(model, gradients, tasks):
    model.compile(keras.optimizers.SGD(0.0), loss="mse", weighting=CAGrad(), gradients=gradients, run_eagerly=True)
    place = PLACES[gradients](model)
    place.collect(place.forward((X, Y, None)))
    order = [model.compiled_tasks.tasks.index(task) for task in tasks]
    return place.gramian()[0].numpy()[np.ix_(order, order)]


def test_gramian_of_features_counts_what_flows_through_later_ones():
    model = two_depths()
    _, of_z1, of_z2 = task_gradients_by_hand(model)
    rows = np.stack([np.concatenate([of_z1[task].ravel(), of_z2[task].ravel()]) for task in Y])
    np.testing.assert_allclose(gramian_of(model, "features", Y), rows @ rows.T, rtol=1e-4)
    assert abs((rows @ rows.T)[0, 1]) > 1e-3


def test_gramians_of_parameters_at_two_depths():
    model = two_depths()
    z1, of_z1, of_z2 = task_gradients_by_hand(model)
    rows = [
        np.concatenate([(X.T @ of_z1[t]).ravel(), of_z1[t].sum(0), (z1.T @ of_z2[t]).ravel(), of_z2[t].sum(0)])
        for t in Y
    ]
    expected = np.stack(rows) @ np.stack(rows).T
    np.testing.assert_allclose(gramian_of(model, "parameters", Y), expected, rtol=1e-4)
    np.testing.assert_allclose(gramian_of(model, "last_shared", Y), expected, rtol=1e-4)  # both layers are a last one


def step_of(model, x=X, y=Y, **options):
    model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True, **options)
    before = [v.numpy() for v in model.shared_variables]
    model.train_on_batch(x, y)
    return np.concatenate([(v.numpy() - old).ravel() for v, old in zip(model.shared_variables, before, strict=True)])


def test_nested_features_are_updated_once():
    plain = step_of(two_depths())
    np.testing.assert_allclose(
        step_of(two_depths(), weighting=CAGrad(**SUM), gradients="features"), plain, rtol=1e-4, atol=1e-6
    )


# An encoder that is called twice

VIEWS = {"left": X, "right": X[::-1].copy()}
PAIRS = {"same": Y["low"], "order": Y["high"]}


def two_views(alone=False):
    keras.utils.set_random_seed(0)
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    encoder = layers.Dense(3, activation="tanh", name="encoder")
    a, b = encoder(left), encoder(right)
    outputs = {"same": layers.Dense(1)(layers.Subtract()([a, b])), "order": layers.Dense(1)(layers.Multiply()([a, b]))}
    if alone:
        outputs = {"same": outputs["same"], "l": layers.Dense(1)(a), "r": layers.Dense(1)(b)}
    return keras_mtl.MultiTaskModel({"left": left, "right": right}, outputs)


@pytest.mark.parametrize(
    "options",
    [
        {"weighting": CAGrad(**SUM)},
        {"weighting": CAGrad(**SUM), "gradients": "features"},
        {"weighting": CAGrad(**SUM), "gradients": "last_shared"},
        {"weighting": CAGrad(**SUM), "gramian_fraction": 0.5},
        {"weighting": CAGrad(**SUM, every=2)},
        {"on_nonfinite": "skip_task"},
    ],
    ids=["parameters", "features", "last_shared", "gramian_fraction", "every", "skip_task"],
)
def test_features_are_those_of_every_call(options):
    plain = step_of(two_views(), VIEWS, PAIRS)
    if isinstance(options.get("weighting"), CAGrad):  # a fresh one: a weighting belongs to one model
        options = {**options, "weighting": CAGrad.from_config(options["weighting"].get_config())}
    np.testing.assert_allclose(step_of(two_views(), VIEWS, PAIRS, **options), plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"gradients": "features"}, {"gradients": "last_shared"}, {"gramian_fraction": 0.5}]
)
def test_views_of_single_tasks_are_no_features_in_common(options):
    model = two_views(alone=True)
    with pytest.raises(ValueError, match="layer 'encoder', which tasks call on inputs of their own: 'l' and 'r'"):
        model.compile("sgd", loss="mse", weighting="cagrad", **options)
    y = {"same": Y["low"], "l": Y["high"], "r": Y["high2"]}
    plain = step_of(two_views(alone=True), VIEWS, y)
    if "gradients" in options and options["gradients"] == "features":
        left_out = step_of(two_views(alone=True), VIEWS, y, on_nonfinite="skip_task")
        np.testing.assert_allclose(left_out, plain, rtol=1e-4, atol=1e-6)


# Heads of methods that split the batch

GAPS = np.where((np.arange(12) % 3 == 0)[:, None], 1.0, np.nan)


@pytest.mark.parametrize(
    ("weighting", "reduction", "rows"),
    [
        ("modo", "sum_over_batch_size", 12),
        ("modo", "sum", 2),  # fewer examples than parts
        ("sdmgrad", "sum", 12),
        ("sdmgrad", "sum_over_batch_size", 2),
    ],
)
def test_heads_get_the_gradient_of_the_whole_batch(weighting, reduction, rows):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 4)).astype("float32")[:rows]
    y = {"a": rng.normal(size=(12, 1))[:rows], "b": (rng.normal(size=(12, 1)) * GAPS)[:rows]}
    keras.utils.set_random_seed(0)
    heads = {task: layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.1)) for task in "ab"}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], heads)
    loss = {task: keras.losses.MeanSquaredError(reduction=reduction) for task in "ab"}
    model.compile(keras.optimizers.SGD(1.0), loss=loss, weighting=weighting, missing="nan", run_eagerly=True)
    trunk, head = next(iter(kernels(model).values())), model.task_variables("b")[0]
    before = head.numpy().astype("float64")
    known = ~np.isnan(y["b"][:, 0])
    hidden = (x @ trunk)[known]
    slope = 2 * (hidden @ before - y["b"][known]) / (1 if reduction == "sum" else known.sum())
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(before - head.numpy(), hidden.T @ slope + 0.2 * before, rtol=1e-4, atol=1e-6)
    squares = float(((hidden @ before - y["b"][known]) ** 2).sum())
    assert logs["b_loss"] == pytest.approx(squares / (1 if reduction == "sum" else known.sum()), rel=1e-4)


# Sparse inputs


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_parts_of_a_sparse_batch(rows):
    dense = np.arange(rows * 3 * 2).reshape(rows, 3, 2) % 4
    sparse = tf.sparse.from_dense(dense)

    def as_dense(part):
        return tf.sparse.to_dense(tf.sparse.reorder(part)).numpy()

    for size in range(rows + 1):
        np.testing.assert_array_equal(as_dense(first_rows(sparse, size)), dense[:size])
    for distance in (2, 3):
        for first in range(min(rows, distance)):
            part = rows_apart({"x": sparse, "none": None}, first, distance)
            np.testing.assert_array_equal(as_dense(part["x"]), dense[first::distance])
            assert part["none"] is None and part["x"].shape.rank == 3


@pytest.mark.parametrize(
    "options",
    [
        {"weighting": "mgda", "gradients": "features"},
        {"weighting": "mgda", "gramian_fraction": 0.5},
        {"weighting": "modo"},
        {"on_nonfinite": "skip_task"},
    ],
    ids=str,
)
def test_sparse_inputs_train_as_dense_ones(options):
    dense = X * (X > 0)
    labels = {"a": Y["low"], "b": Y["high"]}

    def trained(sparse):
        keras.utils.set_random_seed(0)
        heads = {task: layers.Dense(1) for task in "ab"}
        model = keras_mtl.hard_sharing(keras.Input((4,), sparse=sparse), [layers.Dense(3)], heads)
        return step_of(model, tf.sparse.from_dense(dense) if sparse else dense, labels, **options)

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-4, atol=1e-6)
