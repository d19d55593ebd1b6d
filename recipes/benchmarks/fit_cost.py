"""What a call of `fit` costs beyond plain Keras, whatever it trains on.

A tiny model is fitted again and again for two steps, its graph being traced long ago, in turns with the same layers as
a plain Keras model. With `--profile` the functions that take the time are listed.

    python recipes/benchmarks/fit_cost.py [--tasks 2] [--turns 200] [--validation] [--profile]
"""

import argparse
import cProfile
import pstats
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
    "equal, on_nonfinite='skip_step'": {"on_nonfinite": "skip_step"},
    "uncertainty": {"weighting": "uncertainty"},
    "mgda": {"weighting": "mgda"},
}
EXAMPLES = 16


def make_model(num_tasks):
    """A dense layer with a head for each task."""
    heads = {f"t{k}": keras.layers.Dense(1) for k in range(num_tasks)}
    return keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(4, activation="relu")], heads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--validation", action="store_true", help="evaluate at the end of each `fit`")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 4)).astype("float32")
    y = {f"t{k}": rng.normal(size=(EXAMPLES, 1)).astype("float32") for k in range(args.tasks)}
    # A data set without threads that tune it, or the clock shows little else.
    settings = tf.data.Options()
    settings.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(EXAMPLES // 2).cache().with_options(settings)
    options = {"verbose": 0, "validation_data": data if args.validation else None}
    models = {"plain Keras": plain(make_model(args.tasks))}
    models["plain Keras"].compile("sgd", loss=dict.fromkeys(y, "mse"), jit_compile=False)
    for name, more in VARIANTS.items():
        models[name] = make_model(args.tasks)
        models[name].compile("sgd", loss=dict.fromkeys(y, "mse"), jit_compile=False, **more)
    for model in models.values():
        for _ in range(3):
            model.fit(data, **options)
    times = {name: [] for name in models}
    for _ in range(args.turns):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(data, **options)
            times[name].append(1000 * (time.perf_counter() - start))

    table = Table(title=f"One `fit` of two steps, {args.tasks} tasks, {args.turns} turns")
    for column in ("variant", "ms (median)", "beyond plain Keras (median of turns)"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    base = np.array(times["plain Keras"])
    for name, measured in times.items():
        table.add_row(name, f"{np.median(measured):.2f}", f"{np.median(np.array(measured) - base):.2f}")
    Console(width=110).print(table)
    if args.profile:
        for name in ("plain Keras", "equal"):
            with cProfile.Profile() as profile:
                for _ in range(args.turns):
                    models[name].fit(data, **options)
            print(name)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
