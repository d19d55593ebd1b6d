"""What a call of `fit` costs beyond plain Keras, however few steps it takes.

A tiny model is fitted again and again for two steps and for 22, its graph being traced long ago, in turns with the same
layers as a plain Keras model. The constant is the time of two steps without these steps, at the slope between the two.

    python recipes/benchmarks/fit_cost.py [--tasks 2] [--turns 100] [--validation] [--cpu-time]
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from networks import plain
from rich.console import Console
from rich.table import Table

import keras_mtl

VARIANTS = {
    "equal": {},
    "equal, skip_step": {"on_nonfinite": "skip_step"},
    "uncertainty": {"weighting": "uncertainty"},
    "mgda": {"weighting": "mgda"},
}
FEW, MANY, BATCH = 2, 22, 8


def make_model(num_tasks):
    """A dense layer with a head for each task."""
    heads = {f"t{k}": keras.layers.Dense(1) for k in range(num_tasks)}
    return keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(4, activation="relu")], heads)


def make_data(num_tasks, steps):
    """A data set without threads that tune it: the clock would show little else."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * BATCH, 4)).astype("float32")
    y = {f"t{k}": rng.normal(size=(steps * BATCH, 1)).astype("float32") for k in range(num_tasks)}
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).cache().with_options(options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--validation", action="store_true", help="evaluate at the end of each `fit`")
    parser.add_argument("--cpu-time", action="store_true", help="count the main thread's work in place of wall time")
    args = parser.parse_args()

    data = {steps: make_data(args.tasks, steps) for steps in (FEW, MANY)}
    options = {"verbose": 0, "validation_data": data[FEW] if args.validation else None}
    models = {"plain Keras": plain(make_model(args.tasks))}
    loss = {f"t{k}": "mse" for k in range(args.tasks)}
    models["plain Keras"].compile("sgd", loss=loss, jit_compile=False)
    for name, more in VARIANTS.items():
        models[name] = make_model(args.tasks)
        models[name].compile("sgd", loss=loss, jit_compile=False, **more)
    clock = time.thread_time if args.cpu_time else time.perf_counter
    for model in models.values():
        model.fit(data[FEW], **options)
    times = {(name, steps): [] for name in models for steps in data}
    for _ in range(args.turns):
        for name, model in models.items():
            for steps in data:
                start = clock()
                model.fit(data[steps], **options)
                times[name, steps].append(1000 * (clock() - start))

    table = Table(title=f"`fit` of a tiny model, {args.tasks} tasks, {args.turns} turns (lower quartiles)")
    for column in ("variant", f"ms, {FEW} steps", "ms a step", "ms, constant", "constant beyond plain Keras"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    found = {key: np.percentile(measured, 25) for key, measured in times.items()}
    steps = {name: (found[name, MANY] - found[name, FEW]) / (MANY - FEW) for name in models}
    constants = {name: found[name, FEW] - FEW * steps[name] for name in models}
    for name, constant in constants.items():
        numbers = (found[name, FEW], steps[name], constant, constant - constants["plain Keras"])
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
