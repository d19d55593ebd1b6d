"""What absent tasks cost in a step of one task.

Four tasks take turns in a model of a shared trunk and large heads. "Empty
batches" gives every task an input of its own (`keras_mtl.own_inputs` and
`mix(..., inputs="own")`), so that absent tasks have zero rows; "masked labels"
has one input, so that all heads are computed on every row and sample weights
say which labels are there. At 1, a step costs what one of a model of one task
alone does. What is above it is mostly the optimizer, which goes over the
variables of all tasks whatever the size of the batch. The turns are
interleaved; what counts is the ratio.

    python recipes/benchmarks/absent_tasks.py [--width 512] [--batch-size 128] [--steps 40] [--rounds 7] [--wall-time]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import keras_mtl

TASKS = ("a", "b", "c", "d")
INPUTS = 128


def make_model(tasks, width):
    """A trunk of one layer and heads of two."""
    heads = {
        task: [keras.layers.Dense(width, activation="relu"), keras.layers.Dense(width, activation="relu"), last]
        for task, last in ((task, keras.layers.Dense(10)) for task in tasks)
    }
    trunk = [keras.layers.Dense(width, activation="relu")]
    return keras_mtl.hard_sharing(keras.Input((INPUTS,)), trunk, heads)


def examples(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1024, INPUTS)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, 1024)))


def cases(width, batch_size, steps, optimizer):
    """Models and their data by name."""
    data = {task: examples(seed) for seed, task in enumerate(TASKS)}
    options = {"batch_size": batch_size, "stop": steps, "seed": 0}
    alone = make_model(("a",), width), keras_mtl.data.mix({"a": data["a"]}, **options)
    masked = make_model(TASKS, width), keras_mtl.data.mix(data, "round_robin", **options)
    own = keras_mtl.own_inputs(make_model(TASKS, width))
    empty = own, keras_mtl.data.mix(data, "round_robin", inputs="own", **options)
    found = {"one task alone": alone, "four tasks, empty batches": empty, "four tasks, masked labels": masked}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model, _ in found.values():
        model.compile(optimizer, loss=loss, jit_compile=False)
    return found


def measure(found, steps, rounds, clock):
    """Milliseconds per step by name."""
    times = {name: [] for name in found}
    for turn in range(-1, rounds):  # the first one traces
        for name, (model, data) in found.items():
            start = clock()
            model.fit(data, verbose=0)
            if turn >= 0:
                times[name].append(1000 * (clock() - start) / steps)
    return {name: np.array(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wall-time", action="store_true", help="in place of the work of all cores")
    args = parser.parse_args()
    clock = time.perf_counter if args.wall_time else time.process_time
    for optimizer in ("sgd", "adam"):
        times = measure(cases(args.width, args.batch_size, args.steps, optimizer), args.steps, args.rounds, clock)
        table = Table(title=f"{optimizer}: layers of {args.width}, batches of {args.batch_size}")
        for column in ("", "ms per step (median)", "ratio (median of rounds)"):
            table.add_column(column, justify="right" if column else "left")
        base = times["one task alone"]
        for name, measured in times.items():
            table.add_row(name, f"{np.median(measured):.2f}", f"{np.median(measured / base):.2f}")
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
