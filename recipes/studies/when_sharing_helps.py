"""When sharing helps: a task with 100 labels, beside a related and beside an unrelated one.

About ten minutes on two cores, a minute with --quick; downloads nothing.

Two regressions on the same 20 inputs, each a small tanh network with random weights. Task A has 2,000 labels, task B
100. With correlation 1 both networks have the same hidden layer, with correlation 0 independent ones. Single-task
columns, hard sharing, soft sharing with two distances, and cross-stitch units, also with a faster learning rate of
their own, get the same steps and optimizer; each seed draws tasks, data and initial weights.

What it shows: beside an unrelated task, sharing may double the small task's error; beside a related one five seeds,
which draw the tasks too, show no significant gain. What it does not: nothing is tuned for a builder, so this is no
ranking of them.

    python recipes/studies/when_sharing_helps.py [--quick] [--seeds 5] [--steps 1500]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import SINGLE, command_line, mean_and_spread, over_seeds, print_table, study

import keras
import numpy as np
import tensorflow as tf
from data.arrays import scaled, split_at

import keras_mtl

INPUTS, HIDDEN, NOISE = 20, 8, 0.1
LABELLED, TESTED = {"a": 2000, "b": 100}, 2000
MODELS = {
    SINGLE: (keras_mtl.hard_sharing, {"shared_depth": 0}),
    "hard": (keras_mtl.hard_sharing, {}),
    "soft, l2": (keras_mtl.soft_sharing, {"distance": "l2", "strength": 0.01}),
    "soft, trace norm": (keras_mtl.soft_sharing, {"distance": "trace_norm", "strength": 0.01}),
    "cross-stitch": (keras_mtl.cross_stitch, {}),
    "cross-stitch, fast": (keras_mtl.cross_stitch, {}),
}


def make_data(correlation, seed):
    """Inputs and labels of both tasks; task B's are NaN for all but the first 100 examples."""
    rng = np.random.default_rng(seed)
    first, other = rng.normal(size=(2, INPUTS, HIDDEN)) / np.sqrt(INPUTS)
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    readout = rng.normal(size=(2, HIDDEN, 1))
    x = rng.normal(size=(LABELLED["a"] + TESTED, INPUTS))
    y = {task: scaled(np.tanh(2 * x @ w) @ v) for task, w, v in zip("ab", (first, second), readout, strict=True)}
    (x, clean), test = split_at((x, y), LABELLED["a"])
    noisy = {task: values + NOISE * rng.normal(size=values.shape) for task, values in clean.items()}
    noisy["b"][LABELLED["b"] :] = np.nan
    return (x, noisy), test


def train(name, data, steps, callbacks=()):
    """Trains one of `MODELS`: a trunk of two layers of 16 and a linear head for each task."""
    builder, options = MODELS[name]
    stages = [keras.layers.Dense(16, activation="tanh", name=stage) for stage in ("low", "high")]
    model = builder(keras.Input((INPUTS,)), stages, {task: keras.layers.Dense(1) for task in "ab"}, **options)
    optimizer = keras.optimizers.Adam(3e-3)
    if name.endswith("fast"):
        units = {".*/units/.*": keras.optimizers.Adam(0.3)}
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer, units))
    model.compile(optimizer, loss="mse", missing={"b": "nan"}, steps_per_execution=min(steps, 50))
    model.fit(tf.data.Dataset.from_tensors(data).repeat(steps), shuffle=False, callbacks=list(callbacks), verbose=0)
    return model


def main():
    steps = (1500, "of each training; 100 under --quick")
    few = [SINGLE, "hard", "cross-stitch, fast"]
    options = command_line(__file__, __doc__, models=MODELS, quick_models=few, steps=steps)
    data_of = lru_cache(1)(make_data)

    def run(name, seed, callbacks):
        correlation, name = name
        data, (x, y) = data_of(correlation, seed)
        model = train(name, data, 100 if options.quick else options.steps, callbacks)
        predicted = model.predict(x, verbose=0, batch_size=TESTED)["b"]
        return {"error": float(np.mean((predicted - y["b"]) ** 2))}

    groups = {1.0: "correlation 1", 0.0: "correlation 0"}
    how = {"reference": SINGLE, "lower": True, "paired": True, "digits": 3, "gain": False}
    results = study(run, options, {"error": "task B"}, groups=groups, title="test MSE over its variance", **how)
    rows = []
    for name in options.models if SINGLE in options.models else ():
        ratios = (np.divide(results[group, name]["error"], results[group, SINGLE]["error"]) for group in groups)
        rows.append([name, *(mean_and_spread(ratio, 2) for ratio in ratios)])
    print_table(
        f"Error of task B over single-task's, seed by seed, {over_seeds(options)}", ["", *groups.values()], rows
    )


if __name__ == "__main__":
    main()
