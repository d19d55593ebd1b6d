"""AITM, AdaTT, PEPNet and STEM against their equations in NumPy, and what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_mtl import recommenders

X = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
TASKS = ("a", "b", "c")


def stages():
    return [layers.Dense(4, name="low"), layers.Dense(3, activation="tanh", name="high")]


def heads(tasks=TASKS, **options):
    return {task: layers.Dense(1, name="out", **options) for task in tasks}


def build(builder, **options):
    keras.utils.set_random_seed(1)
    given = {"stages": stages(), "heads": heads(), **options}
    return builder(keras.Input((5,)), **given)


class Weights:
    """A model's weights by path, in float64, and what dense layers make of them."""

    def __init__(self, model):
        rng = np.random.default_rng(1)
        for variable in model.variables:
            variable.assign(0.5 * rng.standard_normal(variable.shape))
        self._by_path = {v.path: v.numpy().astype("float64") for v in model.variables}

    def __getitem__(self, path):
        return self._by_path[path]

    def dense(self, path, x, function=lambda x: x):
        return function(x @ self[f"{path}/kernel"] + self[f"{path}/bias"])


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.oracle
def test_aitm():
    model = build(recommenders.aitm)
    w = Weights(model)
    shared = w.dense("shared/low", X)
    before = None
    for task in TASKS:
        own = w.dense(f"{task}/high", shared, np.tanh)
        if before is not None:
            both = [w.dense(f"{task}/hand_on/g", before, relu), own]
            value, key, query = (w[f"{task}/transfer/transfer/{name}"] for name in ("value", "key", "query"))
            scores = np.stack([np.sum((u @ key) * (u @ query), axis=-1) for u in both], axis=-1)
            weights = softmax(scores / np.sqrt(3))
            own = sum(weights[:, i, None] * (u @ value) for i, u in enumerate(both))
        np.testing.assert_allclose(model(X)[task], w.dense(f"{task}/out", own), rtol=1e-4, atol=1e-5)
        before = own


@pytest.mark.oracle
def test_aitm_adds_what_is_out_of_order():
    model = build(recommenders.aitm, heads=heads(activation="sigmoid"), order_strength=0.6)
    Weights(model)
    model.get_layer("a").stack[0].bias.assign([-3.0])  # so that the others are above it
    p = {task: output.numpy() for task, output in model(X).items()}
    expected = [0.6 * np.maximum(p[b] - p[a], 0).mean() for a, b in (("a", "b"), ("b", "c"))]
    np.testing.assert_allclose([float(loss) for loss in model.losses], expected, rtol=1e-5)
    assert sum(expected) > 0
    model.compile("sgd", loss="binary_crossentropy", weighting="mgda", run_eagerly=True)
    logs = model.fit(X, {task: np.ones((6, 1)) for task in TASKS}, verbose=0).history
    assert logs["loss"][0] > sum(logs[f"{task}_loss"][0] for task in TASKS)


@pytest.mark.oracle
@pytest.mark.parametrize(("own", "shared"), [(2, 0), (1, 0), (2, 1)])
def test_adatt(own, shared):
    model = build(recommenders.adatt, task_experts=own, shared_experts=shared)
    w = Weights(model)
    units = [*TASKS, *(["shared"] if shared else [])]
    paths = dict.fromkeys(units, X.astype("float64"))
    for level, (stage, function) in enumerate((("low", lambda x: x), ("high", np.tanh)), start=1):
        experts = {
            unit: [
                w.dense(f"{unit}/expert_{i + 1}/{stage}", paths[unit], function)
                for i in range(shared if unit == "shared" else own)
            ]
            for unit in units
        }
        everything = np.stack([e for unit in units for e in experts[unit]], axis=1)
        fused = {}
        for unit in units if level == 1 else TASKS:
            gate = softmax(paths[unit] @ w[f"{unit}/gate_{level}/softmax/kernel"])
            native = np.stack(experts[unit], axis=1)
            numbers = [1.0] if native.shape[1] == 1 else w[f"{unit}/native_{level}/native/weight"]
            fused[unit] = np.einsum("be,bed->bd", gate, everything) + np.einsum("e,bed->bd", numbers, native)
        paths = fused
    for task in TASKS:
        np.testing.assert_allclose(model(X)[task], w.dense(f"{task}/out", paths[task]), rtol=1e-4, atol=1e-5)


def priors():
    return {"prior": layers.Dense(2, name="who"), "domain": layers.Dense(2, name="where")}


@pytest.mark.oracle
def test_pepnet():
    model = build(recommenders.pepnet, **priors(), hidden=5, gamma=3.0)
    w = Weights(model)

    def scaled(path, prior, context, features):
        hidden = w.dense(f"{path}/gate/hidden", np.concatenate([prior, context], axis=-1), relu)
        return 3.0 / (1 + np.exp(-w.dense(f"{path}/gate/gate", hidden))) * features

    prior, domain = w.dense("shared/prior/who", X), w.dense("shared/domain/where", X)
    embedding = w.dense("shared/low", X)
    embedding = scaled("shared/embedding_gate", domain, embedding, embedding)
    for task in TASKS:
        hidden = scaled(f"{task}/gate_2", prior, embedding, w.dense(f"{task}/high", embedding, np.tanh))
        np.testing.assert_allclose(model(X)[task], w.dense(f"{task}/out", hidden), rtol=1e-4, atol=1e-5)


def test_gates_of_pepnet_move_no_embedding():
    gate = recommenders.PersonalGate()
    prior, context, features = (tf.constant(X) for _ in range(3))
    with tf.GradientTape() as tape:
        tape.watch([prior, context, features])
        total = tf.reduce_sum(gate([prior, context, features]) ** 2)
    of_prior, of_context, of_features = tape.gradient(total, [prior, context, features])
    assert of_context is None and np.any(of_prior) and np.any(of_features)


@pytest.mark.oracle
def test_stem():
    model = build(recommenders.stem, task_experts=2)
    w = Weights(model)
    common = w.dense("shared/low", X)
    own = {task: w.dense(f"{task}/low", X) for task in TASKS}
    experts = [w.dense(f"{t}/expert_{i}/high", own[t], np.tanh) for t in TASKS for i in (1, 2)]
    experts = np.stack([*experts, w.dense("shared/expert_1/high", common, np.tanh)], axis=1)
    for task in TASKS:
        gate = softmax((own[task] + common) @ w[f"{task}/gate/softmax/kernel"])
        mixed = np.einsum("be,bed->bd", gate, experts)
        np.testing.assert_allclose(model(X)[task], w.dense(f"{task}/out", mixed), rtol=1e-4, atol=1e-5)


def test_tasks_of_stem_leave_others_embeddings_and_experts_alone():
    model = build(recommenders.stem)
    Weights(model)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(X)["a"] ** 2)
    gradients = tape.gradient(total, model.trainable_variables)
    reached = {v.path.split("/")[0] for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    assert reached == {"a", "shared"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build(recommenders.aitm, heads=heads("a")),
            "`heads` should have the two tasks of a funnel or more",
        ),
        (lambda: build(recommenders.aitm, shared_depth=2), "`shared_depth` should be an integer from 0 to 1"),
        (
            lambda: build(recommenders.aitm, order_strength=-1),
            "`order_strength` should be a finite number, at least 0",
        ),
        (
            lambda: build(recommenders.aitm, stages=[layers.Dense(2), layers.Reshape((2, 1))]),
            "`stages` should give a vector for each example",
        ),
        (
            lambda: build(recommenders.adatt, task_experts=0),
            "`task_experts` should be an integer of at least 1",
        ),
        (
            lambda: build(recommenders.pepnet, **priors(), shared_depth=0),
            "`shared_depth` should be an integer from 1",
        ),
        (
            lambda: build(recommenders.pepnet, **priors(), stages=[layers.Dense(2)]),
            "`stages` should have one or more for",
        ),
        (lambda: build(recommenders.pepnet, prior=layers.Reshape((5, 1))), "A gate takes a vector of prior"),
        (
            lambda: build(recommenders.pepnet, **priors(), gamma=0),
            "`gamma` should be a finite number, above 0",
        ),
        (
            lambda: build(recommenders.stem, embedding_depth=0),
            "`embedding_depth` should be an integer from 1",
        ),
        (
            lambda: build(recommenders.stem, stages=[layers.Dense(2)]),
            "`stages` should have one or more for the experts",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
