"""Kendall's noise toy: does uncertainty weighting find the noise that the labels have?

About five minutes on two cores, half a minute with --quick; downloads nothing.

100 points of two lines, with noise of standard deviation 10 and 1, one network with a hidden layer of 1,024 units and a
head for each line. Uncertainty weighting learns one log variance s for each task; exp(s / 2) should come to the noise.

What it can show: that the learned noise is right for both tasks, and how long that takes: with Adam's 1e-3 for
everything, as in the authors' notebook, it is still on its way after 2,000 epochs; with 1e-2 for s alone it has
arrived. What it cannot: that the tasks get better by it. What s follows is the training error, and a network that fits
the noise makes it smaller than the noise.

    python recipes/studies/uncertainty_toy.py [--quick] [--seeds 5] [--epochs 2000]
"""

import parent  # noqa: F401
from common import command_line, console, study

import keras
import numpy as np
import tensorflow as tf

import keras_mtl

POINTS, BATCH = 100, 20
NOISE = {"loud": 10.0, "quiet": 1.0}
SLOPE, OFFSET = {"loud": 2.0, "quiet": 3.0}, {"loud": 8.0, "quiet": 3.0}
PART = 50  # epochs of the data in one epoch of `fit`, whose own work would take longer than five steps
VARIANTS = {"s at 1e-3": 1e-3, "s at 1e-2": 1e-2}


def make_data(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((POINTS, 1)).astype("float32")
    y = {
        task: (SLOPE[task] * x + OFFSET[task] + NOISE[task] * rng.standard_normal((POINTS, 1))).astype("float32")
        for task in NOISE
    }
    return x, y


def make_model(learning_rate):
    """The authors' network, with a learning rate for s of its own."""
    model = keras_mtl.hard_sharing(
        keras.Input((1,)),
        [keras.layers.Dense(1024, activation="relu")],
        {task: keras.layers.Dense(1) for task in NOISE},
    )
    adam, for_s = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(learning_rate)
    model.compile(
        keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adam, {".*log_var": for_s})),
        loss=dict.fromkeys(NOISE, "mse"),
        weighting="uncertainty",
        steps_per_execution=PART * POINTS // BATCH,
    )
    return model


def run(seed, learning_rate, epochs, callbacks=()):
    """Trains: the learned noise, `(epochs / PART, 2)`, and at the end the root mean squared training error, `(2,)`."""
    keras.utils.set_random_seed(seed)
    x, y = make_data(seed)
    model = make_model(learning_rate)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(POINTS, seed=seed).batch(BATCH).repeat(PART)
    curve = []

    def listen(epoch, logs):
        curve.append(np.exp(0.5 * keras.ops.convert_to_numpy(model.weighting.log_var)))

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=listen), *callbacks]
    model.fit(data, epochs=epochs // PART, callbacks=callbacks, shuffle=False, verbose=0)
    predicted = model.predict(x, verbose=0)
    error = [np.sqrt(np.mean((predicted[task] - y[task]) ** 2)) for task in NOISE]
    return {"curve": np.array(curve), "error": np.array(error)}


def main():
    options = command_line(__file__, __doc__, models=VARIANTS, epochs=(2000, 100))  # a multiple of PART

    def fit(name, seed, callbacks):
        found = run(seed, VARIANTS[name], options.epochs, callbacks)
        scores = {f"{task} curve": curve for task, curve in zip(NOISE, found["curve"].T, strict=True)}
        for task, learned, error in zip(NOISE, found["curve"][-1], found["error"], strict=True):
            scores |= {f"{task} error": error, f"{task} learned": learned, f"{task} ratio": learned / error}
        return scores

    scores = {
        f"{task} {key}": f"{task} (noise {noise:g}): {words}"
        for task, noise in NOISE.items()
        for key, words in (("error", "training error"), ("learned", "learned"), ("ratio", "learned / error"))
    }
    along = {f"{task} curve": f"{task} (noise {noise:g}): learned noise" for task, noise in NOISE.items()}
    how = {"digits": 2, "logs": False, "along": along, "axes": {"every": PART, "yscale": "log"}}
    study(fit, options, scores, title="Standard deviations", **how)
    console.print("The weight of a task is 1 / (2 * learned noise^2).")


if __name__ == "__main__":
    main()
