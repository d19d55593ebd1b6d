"""What 1,000 binary tasks with sparse labels cost as one head, against a plain Keras head of 1,000 units.

The base is plain Keras `fit` on complete labels. The turns are interleaved, and what counts is the ratio within one
run. A few tasks with a head for each show what the block saves.

    python recipes/benchmarks/many_labels.py [--labels 1000] [--known 0.1] [--wall-time]
"""

import time

from shared import TIMES, batched, beside, options_of, plain, print_table, step_times

import keras
import numpy as np
from keras import layers

import keras_mtl

INPUTS, HIDDEN, HEADS = 64, 256, 30


def stages():
    return [layers.Dense(HIDDEN, activation="relu")]


def block(labels):
    """One head with a unit for each task."""
    return keras_mtl.hard_sharing(
        keras.Input((INPUTS,)), stages(), {"block": layers.Dense(labels, activation="sigmoid")}
    )


def separate(count):
    """A head of one unit for each task."""
    heads = {f"t{i}": layers.Dense(1, activation="sigmoid") for i in range(count)}
    return keras_mtl.hard_sharing(keras.Input((INPUTS,)), stages(), heads)


def make_data(labels, known, batch_size, steps):
    """Batches of complete labels, of labels with NaN, of labels with a mask, and of the first tasks by themselves."""
    rng = np.random.default_rng(0)
    size = batch_size * steps
    x = rng.normal(size=(size, INPUTS)).astype("float32")
    y = rng.integers(0, 2, (size, labels)).astype("float32")
    mask = rng.random((size, labels)) < known
    gaps = np.where(mask, y, np.nan).astype("float32")
    of_each = {f"t{i}": gaps[:, i] for i in range(HEADS)}
    sets = {
        "complete": (x, {"block": y}),
        "NaN": (x, {"block": gaps}),
        "mask": (x, {"block": y}, {"block": mask}),
        "each": (x, of_each),
    }
    return {name: batched(data, batch_size) for name, data in sets.items()}


def variants(labels):
    """Name -> model, the data that it takes, and options of `compile`."""
    labelwise = [keras_mtl.metrics.LabelwiseMean(labels), keras_mtl.metrics.LabelwiseAUC(labels)]
    missing = {"missing": "nan"}
    return {
        "plain Keras": (plain(block(labels)), "complete", {}),
        "complete labels": (block(labels), "complete", {}),
        "NaN": (block(labels), "NaN", missing),
        "mask array": (block(labels), "mask", {}),
        "plain Keras, accuracy": (plain(block(labels)), "complete", {"metrics": {"block": ["binary_accuracy"]}}),
        "NaN, accuracy": (block(labels), "NaN", {**missing, "metrics": {"block": ["binary_accuracy"]}}),
        "NaN, accuracy and AUC of each": (block(labels), "NaN", {**missing, "metrics": {"block": labelwise}}),
        f"NaN, {HEADS} tasks with heads": (separate(HEADS), "each", missing),
    }


def main():
    known, wall_time = (0.1, "part of the labels"), (False, "count seconds in place of the work of all cores")
    sizes = {"labels": 1000, "batch_size": 256, "steps": 10, "rounds": 9}
    args = options_of(__doc__, known=known, wall_time=wall_time, **sizes)
    data = make_data(args.labels, args.known, args.batch_size, args.steps)
    clock = time.perf_counter if args.wall_time else time.process_time
    models = {}
    for name, (model, kind, options) in variants(args.labels).items():
        loss = dict.fromkeys(model.output, "binary_crossentropy")
        model.compile(keras.optimizers.SGD(0.01), loss=loss, jit_compile=False, **options)
        models[name] = model, data[kind]
    times = step_times(models, args.rounds, clock)
    rows = [[name, *beside(measured, times["plain Keras"])] for name, measured in times.items()]
    title = f"{args.labels:,} binary tasks, {100 * args.known:g} % of the labels, batches of {args.batch_size}"
    print_table(title, ["variant", *TIMES], rows)


if __name__ == "__main__":
    main()
