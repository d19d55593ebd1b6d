"""Whether memory stays flat: over training steps, and over models that are built, trained and dropped.

Resident memory is read from the system after a garbage collection, and after the allocator has given back what it holds
free, where it is glibc's. The first tenth is warm-up: TensorFlow's pools and Keras' caches fill. What counts is the
growth from there to the end, and per step or model.

    python recipes/benchmarks/memory.py [--steps 10000] [--models 50] [--weighting mgda]
"""

import argparse
import ctypes
import gc
import pathlib
import platform
import re

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from rich.console import Console
from rich.table import Table

import keras_mtl

TASKS = ("a", "b", "c")


def resident():
    """MiB that this process has in memory and uses."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def make_model(weighting, plain=False):
    model = keras_mtl.cross_stitch(
        keras.Input((16,)),
        [layers.Dense(16, activation="relu"), layers.Dense(16, activation="relu")],
        {task: layers.Dense(1) for task in TASKS},
    )
    if plain:
        model = keras.Model(model.inputs, model.output)
        model.compile("adam", loss=dict.fromkeys(TASKS, "mse"), jit_compile=False)
    else:
        model.compile("adam", loss="mse", weighting=weighting, missing="nan", jit_compile=False)
    return model


def make_data(batches, rng):
    x = rng.normal(size=(16 * batches, 16)).astype("float32")
    y = {task: rng.normal(size=(16 * batches, 1)).astype("float32") for task in TASKS}
    y["a"][::3] = np.nan
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16).cache()


def over_steps(weighting, steps, readings):
    """Memory along one `fit`, read after each epoch."""
    found, model = [], make_model(weighting)
    data = make_data(steps // readings, np.random.default_rng(0))
    read = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(resident()))
    model.fit(data, epochs=readings, verbose=0, callbacks=[read])
    return found


def over_models(weighting, models, plain=False):
    """Memory after each of many models that are built, trained for two steps, and dropped.

    With `plain`, of plain Keras models of the same layers, since what Keras itself keeps is not ours.
    """
    found, data = [], make_data(2, np.random.default_rng(0))
    for _ in range(models):
        model = make_model(weighting, plain)
        model.fit(data, verbose=0)
        del model
        keras.utils.clear_session()
        found.append(resident())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--weighting", default="mgda")
    args = parser.parse_args()

    table = Table(title=f"cross_stitch, {args.weighting}: resident memory in MiB")
    for column in ("over", "after a tenth", "at half", "at the end", "growth from half to end", "KiB for each"):
        table.add_column(column, justify="left" if column == "over" else "right")
    rows = {}
    if args.steps:
        readings = 20
        rows[f"{args.steps} steps"] = over_steps(args.weighting, args.steps, readings), args.steps / readings
    if args.models:
        rows[f"{args.models} models"] = over_models(args.weighting, args.models), 1
        rows[f"{args.models} plain models"] = over_models(args.weighting, args.models, plain=True), 1
    for name, (found, each) in rows.items():
        warm, half, end = found[len(found) // 10], found[len(found) // 2], found[-1]
        count = (len(found) - 1 - len(found) // 2) * each
        growth = end - half
        cells = [f"{value:.1f}" for value in (warm, half, end, growth)]
        table.add_row(name, *cells, f"{1024 * growth / count:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
