"""What it costs to tell a run from all others, by the fingerprint under which `compare` keeps it.

Three models of about ten million parameters: few large layers, many layers, and a large embedding. What counts is the
median of a model's fingerprint, and its ratio to one training step; the data's, once for all runs, stands beside.

    python recipes/benchmarks/fingerprints.py [--rounds 9] [--cpu-time]
"""

import time

from shared import CPU_TIME, clocked, in_turns, options_of, print_table

import keras
import numpy as np
from data.arrays import rows_of
from keras import layers

import keras_mtl
from keras_mtl.analysis._fingerprint import Fingerprint

TASKS = 4


def wide():
    return keras.Input((784,)), [layers.Dense(units, activation="relu") for units in (2048, 2048, 1536)]


def deep():
    """Fifty layers, each with a batch normalization."""
    stages = [[layers.Dense(440, use_bias=False), layers.BatchNormalization(), layers.ReLU()] for _ in range(50)]
    return keras.Input((440,)), stages


def words():
    """An embedding of 70,000 words."""
    return keras.Input((32,), dtype="int32"), [[layers.Embedding(70_000, 140), layers.GlobalAveragePooling1D()]]


def measured(make, batch_size, rounds, clock):
    inputs, stages = make()
    heads = {f"t{k}": layers.Dense(10) for k in range(TASKS)}
    model = keras_mtl.hard_sharing(inputs, stages, heads)
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 70_000, (60_000, *inputs.shape[1:])).astype(inputs.dtype)
    y = {task: rng.integers(0, 10, len(x)) for task in heads}
    batch = rows_of((x, y), slice(batch_size))
    runs = {
        "run": lambda: Fingerprint().digest(model=model),
        "data": lambda: Fingerprint().digest(data=(x, y)),
        "step": lambda: model.train_on_batch(*batch),
    }
    times = in_turns({name: clocked(run, clock) for name, run in runs.items()}, rounds)
    run, data, step = (np.median(of_run) for of_run in times.values())
    size = (x.nbytes + sum(labels.nbytes for labels in y.values())) / 2**20
    cells = [f"{run:.1f}", f"{step:.1f}", f"{run / step:.2f}", f"{size:.0f}", f"{data:.1f}"]
    return [make.__name__, f"{model.count_params():,}", str(len(model.weights)), *cells]


def main():
    args = options_of(__doc__, rounds=9, batch_size=256, cpu_time=CPU_TIME)
    clock = time.process_time if args.cpu_time else time.perf_counter
    rows = [measured(make, args.batch_size, args.rounds, clock) for make in (wide, deep, words)]
    header = ["model", "parameters", "weights", "ms per run", "ms per step", "ratio", "data, MiB", "ms per data"]
    print_table("Fingerprints", header, rows)


if __name__ == "__main__":
    main()
