"""What 1,000 binary tasks with sparse labels cost as one head, against a plain Keras head of 1,000 units.

The base is plain Keras `fit` on complete labels. The turns are interleaved, and what counts is the ratio within one
run. A few tasks with a head for each show what the block saves.

    python recipes/benchmarks/many_labels.py [--labels 1000] [--known 0.1] [--wall-time]
"""

import argparse
import time

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

import keras_mtl

INPUTS, HIDDEN, HEADS = 64, 256, 30


def stages():
    return [layers.Dense(HIDDEN, activation="relu")]


def block(labels):
    """One head with a unit for each task."""
    return keras_mtl.hard_sharing(
        keras.Input((INPUTS,)), stages(), {"block": layers.Dense(labels, activation="sigmoid")}
    )


def plain(labels):
    """The same layers as a plain `keras.Model`."""
    model = block(labels)
    return keras.Model(model.input, model.output)


def separate(count):
    """A head of one unit for each task."""
    heads = {f"t{i}": layers.Dense(1, activation="sigmoid") for i in range(count)}
    return keras_mtl.hard_sharing(keras.Input((INPUTS,)), stages(), heads)


def make_data(labels, known, batch_size, steps):
    """Batches of complete labels, of labels with NaN, of labels with a mask, and of the first tasks by themselves."""
    import tensorflow as tf

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
    return {name: tf.data.Dataset.from_tensor_slices(data).batch(batch_size).cache() for name, data in sets.items()}


def variants(labels):
    """Name -> model, the data that it takes, and options of `compile`."""
    labelwise = [keras_mtl.metrics.LabelwiseMean(labels), keras_mtl.metrics.LabelwiseAUC(labels)]
    missing = {"missing": "nan"}
    return {
        "plain Keras": (plain(labels), "complete", {}),
        "complete labels": (block(labels), "complete", {}),
        "NaN": (block(labels), "NaN", missing),
        "mask array": (block(labels), "mask", {}),
        "plain Keras, accuracy": (plain(labels), "complete", {"metrics": {"block": ["binary_accuracy"]}}),
        "NaN, accuracy": (block(labels), "NaN", {**missing, "metrics": {"block": ["binary_accuracy"]}}),
        "NaN, accuracy and AUC of each": (block(labels), "NaN", {**missing, "metrics": {"block": labelwise}}),
        f"NaN, {HEADS} tasks with heads": (separate(HEADS), "each", missing),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--known", type=float, default=0.1, help="the part of the labels that is known")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--wall-time", action="store_true", help="count seconds in place of the work of all cores")
    args = parser.parse_args()

    data = make_data(args.labels, args.known, args.batch_size, args.steps)
    clock = time.perf_counter if args.wall_time else time.process_time
    models, times = {}, {}
    for name, (model, kind, options) in variants(args.labels).items():
        loss = dict.fromkeys(model.output, "binary_crossentropy")
        model.compile(keras.optimizers.SGD(0.01), loss=loss, jit_compile=False, **options)
        model.fit(data[kind], verbose=0)
        models[name], times[name] = (model, data[kind]), []
    for _ in range(args.rounds):
        for name, (model, batches) in models.items():
            start = clock()
            model.fit(batches, verbose=0)
            times[name].append(1000 * (clock() - start) / args.steps)
    title = f"{args.labels:,} binary tasks, {100 * args.known:g} % of the labels, batches of {args.batch_size}"
    table = Table(title=title, title_justify="left")
    for column in ("variant", "ms per step (median)", "ratio (median of rounds)", "ratio of fastest rounds"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    base = np.array(times["plain Keras"])
    for name, measured in times.items():
        measured = np.array(measured)
        ratio, fastest = np.median(measured / base), measured.min() / base.min()
        table.add_row(name, f"{np.median(measured):.2f}", f"{ratio:.2f}", f"{fastest:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
