"""What it costs to tell a run from all others, by the fingerprint under which `compare` keeps it.

Three models of about ten million parameters: few large layers, many layers, and a large embedding. What counts is the
median of a model's fingerprint, and its ratio to one training step; the data's, once for all runs, stands beside.

    python recipes/benchmarks/fingerprints.py [--rounds 9] [--cpu-time]
"""

import argparse
import time

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

import keras_mtl
from keras_mtl.analysis._fingerprint import Fingerprint

TASKS = 4


def wide():
    """Three layers."""
    return keras.Input((784,)), [layers.Dense(units, activation="relu") for units in (2048, 2048, 1536)]


def deep():
    """Fifty layers, each with a batch normalization."""
    stages = [[layers.Dense(440, use_bias=False), layers.BatchNormalization(), layers.ReLU()] for _ in range(50)]
    return keras.Input((440,)), stages


def words():
    """An embedding of 70,000 words."""
    return keras.Input((32,), dtype="int32"), [[layers.Embedding(70_000, 140), layers.GlobalAveragePooling1D()]]


def median_ms(run, rounds, clock):
    """Milliseconds of the median round, without the first."""
    times = []
    for _ in range(rounds + 1):
        start = clock()
        run()
        times.append(1000 * (clock() - start))
    return float(np.median(times[1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--cpu-time", action="store_true", help="count the work of all cores in place of wall time")
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    table = Table()
    for column in ("model", "parameters", "weights", "ms per run", "ms per step", "ratio", "data, MiB", "ms per data"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rng = np.random.default_rng(0)
    for make in (wide, deep, words):
        inputs, stages = make()
        heads = {f"t{k}": layers.Dense(10) for k in range(TASKS)}
        model = keras_mtl.hard_sharing(inputs, stages, heads)
        model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = rng.integers(0, 70_000, (60_000, *inputs.shape[1:])).astype(inputs.dtype)
        y = {task: rng.integers(0, 10, len(x)) for task in heads}
        batch = x[: args.batch_size], {task: labels[: args.batch_size] for task, labels in y.items()}
        run = median_ms(lambda model=model: Fingerprint().digest(model=model), args.rounds, clock)
        data = median_ms(lambda x=x, y=y: Fingerprint().digest(data=(x, y)), args.rounds, clock)
        step = median_ms(lambda model=model, batch=batch: model.train_on_batch(*batch), args.rounds, clock)
        size = (x.nbytes + sum(labels.nbytes for labels in y.values())) / 2**20
        row = [f"{run:.1f}", f"{step:.1f}", f"{run / step:.2f}", f"{size:.0f}", f"{data:.1f}"]
        table.add_row(make.__name__, f"{model.count_params():,}", str(len(model.weights)), *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
