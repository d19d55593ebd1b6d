"""Small searches that the tests of tuning share."""

import typing

import keras
import keras_tuner
import numpy as np

from keras_mtl.tuning import SharingHyperModel, objective

BASELINES = {"a": {"loss": 1.0}, "b": {"loss": 1.0}}


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 3)).astype("float32")
    return x, {"a": x[:, 0], "b": x[:, 1] ** 2}


def make(**options):
    arguments = {
        "compile": {"loss": "mse", "metrics": {"b": ["mae"]}},
        "training": {"optimizer": "sgd", "learning_rate": (1e-3, 1e-1)},
        "seed": 3,
    }
    stages = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4, activation="tanh")]
    heads = {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}
    return SharingHyperModel(keras.Input((3,)), stages, heads, **{**arguments, **options})


def random_search(directory, hypermodel, max_trials, **options):
    return keras_tuner.RandomSearch(
        hypermodel, objective(BASELINES), max_trials=max_trials, seed=1, directory=directory, **options
    )


def search(tuner, epochs=1, **options):
    x, y = make_data()
    tuner.search(x, y, epochs=epochs, batch_size=16, validation_data=(x, y), verbose=0, **options)
    return [trial for _, trial in sorted(tuner.oracle.trials.items())]


class Recorder(keras.callbacks.Callback):
    """State of weighting and optimizer at the end of each epoch; tuners copy callbacks, so it is kept by the class."""

    entries: typing.ClassVar = []

    def on_epoch_end(self, epoch, logs=None):
        self.entries.append((logs["val_a_loss"], self.state_of(self.model)))

    @staticmethod
    def state_of(model):
        return [np.array(v) for v in (*model.weighting.variables, *model.optimizer.variables)]
