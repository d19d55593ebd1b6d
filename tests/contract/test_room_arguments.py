"""What functions of the rooms refuse, by the argument's name."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.learned import adashare, branch_by_affinity, branches_of, fit_policy, sample_policies

X = np.ones((8, 5), "float32")
Y = {task: np.ones((8, 1), "float32") for task in "ab"}


def parts():
    stages = [keras.layers.Dense(5, activation="tanh", name=name) for name in ("low", "high")]
    return keras.Input((5,)), stages, {task: keras.layers.Dense(1) for task in "ab"}


def by_affinity(**options):
    return branch_by_affinity(*parts(), **{"train": print, "validation_data": (X, Y), **options})


def policy(compiled=True):
    model = adashare(*parts())
    if compiled:
        model.compile("sgd", loss="mse")
    return model


def trained(data=(X, Y), policy_data=(X, Y), epochs=1):
    return fit_policy(policy(), data, policy_data, epochs=epochs)


def modules(vocabulary):
    kinds = {"find": keras_mtl.modular.FindModule(), "answer": keras_mtl.modular.MeasureModule()}
    layouts = [("answer", None, ("find", "red"))]
    inputs = keras.Input((3, 3, 4), name="image")
    return keras_mtl.modular.neural_module_network(
        inputs, [keras.layers.Dense(5)], kinds, layouts, vocabulary=vocabulary
    )


CASES = {
    "cost as text": (lambda: by_affinity(branch_cost="1"), "`branch_cost`"),
    "cost of NaN": (lambda: by_affinity(branch_cost=float("nan")), "`branch_cost`"),
    "no weight": (lambda: by_affinity(separation_weight=None), "`separation_weight`"),
    "errors by name": (lambda: by_affinity(errors="mse"), "`errors`"),
    "no examples": (lambda: by_affinity(validation_data=(X[:0], {t: y[:0] for t, y in Y.items()})), "no label.*'a'"),
    "tree of no model": (lambda: branches_of(3), "`model`"),
    "no policies": (lambda: sample_policies(policy(False), 0), "`count`"),
    "policies as text": (lambda: sample_policies(policy(False), "3"), "`count`"),
    "no epochs": (lambda: trained(epochs=0), "`epochs`"),
    "epochs as text": (lambda: trained(epochs="2"), "`epochs`"),
    "no data": (lambda: trained(data=None), "`data`"),
    "no labels": (lambda: trained(policy_data=(X,)), "`policy_data`"),
    "a word twice": (lambda: modules(["red", "red", "blue"]), r"`vocabulary`.*\['red'\]"),
    "no columns": (lambda: keras_mtl.retrieval.hashed_trigrams(["cat"], 0), "`size`"),
    "no text": (lambda: keras_mtl.retrieval.hashed_trigrams(["cat", None], 8), r"texts\[1\]=None"),
}


@pytest.mark.parametrize("name", CASES)
def test_is_refused(name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        call()
