"""Weightings through `compile` and `fit`: each step against one worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.weighting import MGDA, Uncertainty

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 4)).astype("float32")
Y = {"a": RNG.normal(size=(10, 1)).astype("float32"), "b": RNG.integers(0, 3, (10, 1))}
LOSS = {"a": "mse", "b": "sparse_categorical_crossentropy"}


def build(trunk=None):
    keras.utils.set_random_seed(0)
    trunk = trunk or [layers.Dense(6, activation="tanh", name="one"), layers.Dense(5, activation="tanh", name="two")]
    heads = {"a": layers.Dense(1, name="out"), "b": layers.Dense(3, activation="softmax", name="out")}
    return keras_mtl.hard_sharing(keras.Input((4,)), trunk, heads)


def by_path(model):
    return {v.path: v.numpy() for v in model.variables}


def losses_of(out):
    squares = tf.reduce_mean((out["a"] - Y["a"]) ** 2)
    return [squares, tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(Y["b"], out["b"]))]


def test_uncertainty_step_by_hand():
    """Weights exp(-s)/2 and exp(-s); the gradient of s is (1 - exp(-s) L)/2 and 1/2 - exp(-s) L."""
    model = build()
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, weighting=Uncertainty(initial=0.5), run_eagerly=True)
    with tf.GradientTape() as tape:
        la, lb = losses_of(model(X, training=True))
        total = 0.5 * np.exp(-0.5) * la + np.exp(-0.5) * lb
    before, weights = by_path(model), [v for v in model.trainable_variables if v is not model.weighting.log_var]
    gradients = tape.gradient(total, weights)
    logs = model.train_on_batch(X, Y, return_dict=True)
    for v, g in zip(weights, gradients, strict=True):
        np.testing.assert_allclose(v, before[v.path] - 0.1 * g, rtol=1e-5, atol=1e-6, err_msg=v.path)
    slope = np.array([0.5 - 0.5 * np.exp(-0.5) * la, 0.5 - np.exp(-0.5) * lb])
    np.testing.assert_allclose(model.weighting.log_var, 0.5 - 0.1 * slope, rtol=1e-5)
    assert logs["a_weight"] == pytest.approx(0.5 * np.exp(-0.5)) and logs["b_weight"] == pytest.approx(np.exp(-0.5))
    assert logs["loss"] == pytest.approx(float(la + lb), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("mse", "regression"),
        (keras.losses.Huber(), "regression"),
        ("mae", "regression"),
        ("binary_crossentropy", "classification"),
        ("crossentropy", "classification"),
        (keras.losses.SparseCategoricalCrossentropy(), "classification"),
        ("kl_divergence", "classification"),
        (lambda y, p: (y - p) ** 2, "regression"),
    ],
)
def test_uncertainty_tells_kinds_from_losses(loss, kind):
    model = build()
    model.compile("sgd", loss={"a": loss}, weighting="uncertainty")
    weight = float(model.weighting([1.0])[0])
    assert weight == {"regression": 0.5, "classification": 1.0}[kind]


def test_uncertainty_kinds_can_be_given():
    model = build()
    model.compile("sgd", loss=LOSS, weighting=Uncertainty(kinds={"a": "laplace"}))
    # At s = 0 the objective of laplace is L + s, of classification L + s/2.
    s = tf.constant([0.1, 0.1])
    model.weighting.log_var.assign(s)
    weights = model.weighting([2.0, 3.0])
    objective = float(model.weighting.objective(tf.constant([2.0, 3.0]), weights, tf.ones(2)))
    assert objective == pytest.approx(np.exp(-0.1) * 5.0 + 0.1 + 0.05, rel=1e-6)
    with pytest.raises(ValueError, match=r"`kinds` should have tasks among \['a', 'b'\]. Received: \['c'\]"):
        model.compile("sgd", loss=LOSS, weighting=Uncertainty(kinds={"c": "laplace"}))


def adamw(**options):
    return keras.optimizers.AdamW(0.01, weight_decay=0.5, **options)


def excluding(names):
    optimizer = adamw()
    optimizer.exclude_from_weight_decay(var_names=names)
    return optimizer


@pytest.mark.parametrize(
    "optimizer",
    [
        adamw,
        lambda: keras.optimizers.LossScaleOptimizer(adamw()),
        lambda: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adamw(), {"^a/": adamw()})),
        lambda: excluding(["bias"]),
    ],
    ids=["plain", "loss_scale", "multi", "with_own_exclusion"],
)
def test_uncertainty_is_never_weight_decayed(optimizer):
    """Adam moves s by 0.01 a step whatever its gradient; decay of 0.5 would take off 0.5% of 5 on top."""
    model = build()
    model.compile(optimizer(), loss=LOSS, weighting=Uncertainty(initial=5.0), run_eagerly=True)
    model.fit(X, Y, batch_size=10, verbose=0)
    moved = 5.0 - model.weighting.log_var.numpy()
    np.testing.assert_allclose(np.abs(moved), 0.01, rtol=1e-3)


def test_own_exclusions_from_weight_decay_stay():
    model = build()
    optimizer = keras.optimizers.AdamW(1.0, weight_decay=0.5)
    kernel = next(v for v in model.trainable_variables if v.path == "a/out/kernel")
    optimizer.exclude_from_weight_decay(var_list=[kernel], var_names=["bias"])
    model.compile(optimizer, loss=LOSS, weighting="uncertainty")
    optimizer.build(model.trainable_variables)
    for v in model.trainable_variables:
        v.assign(tf.ones_like(v))
    optimizer._apply_weight_decay(model.trainable_variables)
    kept = {v.path for v in model.trainable_variables if np.all(v.numpy() == 1.0)}
    decayed = {v.path for v in model.trainable_variables} - kept
    assert decayed == {"shared/one/kernel", "shared/two/kernel", "b/out/kernel"}


def min_norm_of_two(g1, g2):
    """Weights of the shortest convex combination of two vectors (Sener and Koltun 2018, equation 5)."""
    w = np.dot(g2 - g1, g2) / np.dot(g1 - g2, g1 - g2)
    return np.clip(np.array([w, 1 - w]), 0, 1)


def flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


@pytest.mark.parametrize("gradients", ["parameters", "last_shared", "features"])
def test_mgda_step_by_hand(gradients):
    model = build()
    static = {"a": 0.1}  # a weighting sees the losses times these; with them no gradient is the shortest
    options = dict(loss=LOSS, loss_weights=static, weighting="mgda", gradients=gradients, run_eagerly=True)
    model.compile(keras.optimizers.SGD(0.1), **options)
    shared, last = model.shared_variables, model.shared_variables[2:]
    assert [v.path for v in last] == ["shared/two/kernel", "shared/two/bias"]
    own = {task: model.task_variables(task) for task in model.tasks}
    trunk = keras.Model(model.input, model.sharing.features()[0])
    heads = keras.Model(trunk.output, model.output)
    with tf.GradientTape(persistent=True) as tape:
        z = trunk(X)
        la, lb = losses_of(heads(z))
        la = 0.1 * la
    ga, gb = (flat(tape.gradient(one, shared)) for one in (la, lb))
    if gradients == "parameters":
        w = min_norm_of_two(ga, gb)
    elif gradients == "last_shared":
        w = min_norm_of_two(*(flat(tape.gradient(one, last)) for one in (la, lb)))
    else:  # of the features, batch included
        w = min_norm_of_two(*(flat([tape.gradient(one, z)]) for one in (la, lb)))
    assert 0.02 < w[0] < 0.98  # or the three places could not be told apart
    heads_before = {
        t: flat(own[t]) - 0.1 * flat(tape.gradient(one, own[t])) for t, one in zip("ab", (la, lb), strict=True)
    }
    expected = flat(shared) - 0.1 * (w[0] * ga + w[1] * gb)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert [logs["a_weight"], logs["b_weight"]] == pytest.approx([0.1 * w[0], w[1]], rel=1e-4)
    np.testing.assert_allclose(flat(shared), expected, rtol=1e-4, atol=1e-6)
    for task, value in heads_before.items():  # heads take their own task's plain gradient
        np.testing.assert_allclose(flat(own[task]), value, rtol=1e-4, atol=1e-6)
    if gradients == "parameters":
        assert logs["a_grad_norm"] == pytest.approx(np.linalg.norm(ga), rel=1e-4)
        cosine = np.dot(ga, gb) / np.linalg.norm(ga) / np.linalg.norm(gb)
        assert logs["grad_cosine"] == pytest.approx(cosine, rel=1e-3, abs=1e-5)


def test_mgda_takes_each_task_gradient_once(monkeypatch):
    """Two tasks, two backward passes: the update uses the gradients that the weights were made from."""
    model = build()
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, weighting="mgda", run_eagerly=True)
    passes = []
    gradient = tf.GradientTape.gradient

    def counted(self, target, sources, *args, **kwargs):
        trunk = [s for s in tf.nest.flatten(sources) if any(s is v or s is v.value for v in model.shared_variables)]
        passes.append(len(trunk))
        return gradient(self, target, sources, *args, **kwargs)

    monkeypatch.setattr(tf.GradientTape, "gradient", counted)
    model.train_step((tf.constant(X), Y))
    assert len([n for n in passes if n]) == 2


@pytest.mark.parametrize("gradients", ["parameters", "last_shared", "features"])
def test_every_trainable_variable_moves_with_several_inputs_and_kinds_of_layers(gradients):
    keras.utils.set_random_seed(0)
    inputs = {"text": keras.Input((5,), dtype="int32", name="text"), "age": keras.Input((1,), name="age")}
    text = layers.GlobalAveragePooling1D()(layers.Embedding(8, 3, mask_zero=True)(inputs["text"]))
    joint = layers.Concatenate()([text, layers.Dense(2)(inputs["age"])])
    hidden = layers.BatchNormalization()(layers.Dense(4, activation="tanh")(joint))
    skip = layers.Concatenate()([hidden, inputs["age"]])  # a head that also sees an input
    model = keras_mtl.MultiTaskModel(inputs, {"a": layers.Dense(1)(hidden), "b": layers.Dense(3)(skip)})
    loss = {"a": "mse", "b": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile(keras.optimizers.SGD(0.1), loss=loss, weighting="mgda", gradients=gradients, run_eagerly=True)
    before = by_path(model)
    x = {"text": np.maximum(RNG.integers(-2, 8, (10, 5)), 0), "age": X[:, :1]}
    model.fit(x, Y, batch_size=10, epochs=3, verbose=0)
    still = [v.path for v in model.trainable_variables if np.abs(v.numpy() - before[v.path]).max() == 0]
    assert not still


def test_regularizers_and_added_losses_reach_the_trunk_under_mgda():
    """A penalty is no task: its whole gradient is added to the combination."""
    plain, penal = build(), build()
    trunk = [layers.Dense(6, activation="tanh", kernel_regularizer="l2"), layers.Dense(5, activation="tanh")]
    penal = build(trunk)
    penal.set_weights(plain.get_weights())
    for model in (plain, penal):
        model.compile(keras.optimizers.SGD(0.1), loss=LOSS, weighting="mgda", run_eagerly=True)
    before = plain.get_weights()[0]
    logs = [model.train_on_batch(X, Y, return_dict=True) for model in (plain, penal)]
    expected = plain.get_weights()[0] - 0.1 * 2 * 0.01 * before
    np.testing.assert_allclose(penal.get_weights()[0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(penal.get_weights()[2], plain.get_weights()[2], rtol=1e-6)
    assert logs[1]["loss"] - logs[0]["loss"] == pytest.approx(0.01 * (before**2).sum(), rel=1e-3)


@pytest.mark.parametrize("shared_depth", [None, 0])
def test_gradient_methods_need_a_trunk_that_trains(shared_depth):
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), [layers.Dense(3)], {"a": layers.Dense(1), "b": layers.Dense(1)}, shared_depth=shared_depth
    )
    if shared_depth is None:
        model.layers[1].trainable = False
    with pytest.raises(ValueError, match="MGDA needs trainable variables that two tasks or more share"):
        model.compile("sgd", loss="mse", weighting="mgda")


def test_a_trunk_frozen_after_compile_is_an_error_under_a_gradient_method():
    model = build()
    model.compile("sgd", loss=LOSS, weighting="mgda")
    for layer in model.layers:
        if model.sharing.is_shared(layer):
            layer.trainable = False
    with pytest.raises(ValueError, match="trainable variables that two tasks or more share"):
        model.fit(X, Y, verbose=0)


@keras.saving.register_keras_serializable("tests")
class Rounds(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs + tf.stop_gradient(inputs * self.scale)


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_a_variable_that_no_gradient_reaches_is_an_error(weighting):
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), [layers.Dense(3), Rounds(name="rounds")], {"a": layers.Dense(1), "b": layers.Dense(1)}
    )
    model.compile("sgd", loss="mse", weighting=weighting)
    with pytest.raises(ValueError, match=r"should get a gradient.*no gradient for \['shared/rounds/scale'\]"):
        model.fit(X, {"a": Y["a"], "b": Y["a"]}, verbose=0)


def test_compile_again_leaves_no_state_of_the_last_weighting():
    model = build()
    sizes = []
    for weighting in ("uncertainty", "mgda", "uncertainty", "equal"):
        model.compile("sgd", loss=LOSS, weighting=weighting)
        logs = model.fit(X, Y, verbose=0).history
        sizes.append((len(model.trainable_variables), len(model.non_trainable_variables)))
        assert ("grad_cosine" in logs) == (weighting == "mgda")
    trainable = [n for n, _ in sizes]
    assert trainable == [9, 8, 9, 8]
    assert sizes[1] == sizes[3] == (8, 0)


def test_one_task_alone_weighs_one():
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], {"a": layers.Dense(1)})
    model.compile("sgd", loss="mse", run_eagerly=True)
    assert model.fit(X, {"a": Y["a"]}, verbose=0).history["a_weight"] == [1.0]
    with pytest.raises(ValueError, match="two tasks or more share"):
        model.compile("sgd", loss="mse", weighting=MGDA())
