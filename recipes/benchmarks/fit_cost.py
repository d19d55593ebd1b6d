"""What a call of `fit` costs beyond plain Keras, however few steps it takes.

A tiny model is fitted again and again for two steps and for 22, its graph being traced long ago, in turns with the same
layers as a plain Keras model. The constant is the time of two steps without these steps, at the slope between the two.

    python recipes/benchmarks/fit_cost.py [--tasks 2] [--turns 100] [--validation] [--cpu-time]
"""

import time
from functools import partial

from shared import batched, clocked, in_turns, options_of, plain, print_table

import keras
import numpy as np

import keras_mtl

VARIANTS = {
    "equal": {},
    "equal, skip_step": {"on_nonfinite": "skip_step"},
    "uncertainty": {"weighting": "uncertainty"},
    "mgda": {"weighting": "mgda"},
}
FEW, MANY, BATCH = 2, 22, 8


def make_model(num_tasks):
    heads = {f"t{k}": keras.layers.Dense(1) for k in range(num_tasks)}
    return keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(4, activation="relu")], heads)


def make_data(num_tasks, steps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * BATCH, 4)).astype("float32")
    y = {f"t{k}": rng.normal(size=(steps * BATCH, 1)).astype("float32") for k in range(num_tasks)}
    return batched((x, y), BATCH)


def main():
    flags = {"validation": "evaluate at the end of each `fit`", "cpu_time": "the main thread's work, not wall time"}
    args = options_of(__doc__, tasks=2, turns=100, **{name: (False, words) for name, words in flags.items()})
    data = {steps: make_data(args.tasks, steps) for steps in (FEW, MANY)}
    options = {"verbose": 0, "validation_data": data[FEW] if args.validation else None}
    models = {"plain Keras": plain(make_model(args.tasks))}
    loss = {f"t{k}": "mse" for k in range(args.tasks)}
    models["plain Keras"].compile("sgd", loss=loss, jit_compile=False)
    for name, more in VARIANTS.items():
        models[name] = make_model(args.tasks)
        models[name].compile("sgd", loss=loss, jit_compile=False, **more)
    clock = time.thread_time if args.cpu_time else time.perf_counter
    measures = {
        (name, steps): clocked(partial(model.fit, data[steps], **options), clock)
        for name, model in models.items()
        for steps in data
    }
    times = in_turns(measures, args.turns)
    found = {key: np.percentile(measured, 25) for key, measured in times.items()}
    steps = {name: (found[name, MANY] - found[name, FEW]) / (MANY - FEW) for name in models}
    constants = {name: found[name, FEW] - FEW * steps[name] for name in models}
    rows = []
    for name, constant in constants.items():
        numbers = (found[name, FEW], steps[name], constant, constant - constants["plain Keras"])
        rows.append([name, *(f"{number:.2f}" for number in numbers)])
    header = ["variant", f"ms, {FEW} steps", "ms a step", "ms, constant", "constant beyond plain Keras"]
    print_table(f"`fit` of a tiny model, {args.tasks} tasks, {args.turns} turns (lower quartiles)", header, rows)


if __name__ == "__main__":
    main()
