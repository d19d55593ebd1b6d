"""A small student with its teachers, and their losses worked out in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.distillation import distill

RNG = np.random.default_rng(0)
N, C = 12, 3
X = RNG.normal(size=(N, 4)).astype("float32")
KIND = RNG.integers(0, C, N)
SOLD = RNG.integers(0, 2, N).astype("float32")
PRICE = RNG.normal(size=N).astype("float32")
Y = {"kind": KIND, "sold": SOLD, "price": PRICE}
WIDTHS = {"kind": C, "sold": 1, "price": 1}
LOSS = {
    "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "sold": keras.losses.BinaryCrossentropy(from_logits=True),
    "price": "mse",
}


def build(tasks=tuple(WIDTHS), seed=0, hidden=6, **activations):
    keras.utils.set_random_seed(seed)
    return keras_mtl.hard_sharing(
        keras.Input((4,)),
        [layers.Dense(hidden, activation="tanh", name="fc")],
        {task: layers.Dense(WIDTHS[task], activation=activations.get(task), name="out") for task in tasks},
    )


def teachers():
    return {task: build([task], seed=seed) for seed, task in enumerate(WIDTHS, start=1)}


def distiller(optimizer=None, student=None, given=None, compiled=None, **options):
    model = distill(student or build(), given or teachers(), **options)
    # Eagerly, since tracing takes longer than the one step that most tests take.
    options = {"optimizer": optimizer or keras.optimizers.SGD(0.0), "loss": LOSS, "run_eagerly": True}
    model.compile(**options | (compiled or {}))
    return model


def fit(model, *data, **options):
    history = model.fit(*data, **{"batch_size": N, "shuffle": False, "verbose": 0, **options}).history
    return {name: values[-1] for name, values in history.items()}


def outputs_of(model):
    return {task: np.array(output, "float64") for task, output in model(X).items()}


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def losses_by_hand(student, taught, gold, temperature=1.0, labelled=None):
    """The three losses, with the teachers' outputs in a dict from task to a list."""
    labelled = labelled or {task: np.ones(N, bool) for task in WIDTHS}
    out = outputs_of(student)

    def mean(task, hard, soft):
        return np.mean(np.where(labelled[task], gold * hard + (1 - gold) * soft, soft))

    q = np.mean([softmax(z / temperature) for z in taught["kind"]], axis=0)
    soft = -(temperature**2) * (q * np.log(softmax(out["kind"] / temperature))).sum(-1)
    kind = mean("kind", -np.log(softmax(out["kind"])[np.arange(N), KIND]), soft)

    q = np.mean([sigmoid(z[:, 0] / temperature) for z in taught["sold"]], axis=0)
    p, soft_p = sigmoid(out["sold"][:, 0]), sigmoid(out["sold"][:, 0] / temperature)
    soft = -(temperature**2) * (q * np.log(soft_p) + (1 - q) * np.log(1 - soft_p))
    sold = mean("sold", -SOLD * np.log(p) - (1 - SOLD) * np.log(1 - p), soft)

    said = np.mean([z[:, 0] for z in taught["price"]], axis=0)
    target = np.where(labelled["price"], gold * PRICE + (1 - gold) * said, said)
    return {"kind_loss": kind, "sold_loss": sold, "price_loss": np.mean((out["price"][:, 0] - target) ** 2)}


def said_by(given):
    return {
        task: [outputs_of(model)[task] for model in (models if isinstance(models, list) else [models])]
        for task, models in given.items()
    }


def assert_logs(logs, expected):
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-4), name
