"""Whether memory stays flat: over training steps, and over models that are built, trained and dropped.

Resident memory is read from the system after a garbage collection, and after the allocator has given back what it holds
free, where it is glibc's. The first tenth is warm-up: TensorFlow's pools and Keras' caches fill. What counts is the
growth from there to the end, and per step or model.

    python recipes/benchmarks/memory.py [--steps 10000] [--models 50] [--weighting mgda]
"""

import ctypes
import gc
import platform

from shared import batched, memory, options_of, plain, print_table

import keras
import numpy as np
from keras import layers

import keras_mtl

TASKS = ("a", "b", "c")


def resident():
    """MiB that this process has in memory and uses."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return memory()


def make_model(weighting, by_keras=False):
    model = keras_mtl.cross_stitch(
        keras.Input((16,)),
        [layers.Dense(16, activation="relu"), layers.Dense(16, activation="relu")],
        {task: layers.Dense(1) for task in TASKS},
    )
    if by_keras:
        model = plain(model)
        model.compile("adam", loss=dict.fromkeys(TASKS, "mse"), jit_compile=False)
    else:
        model.compile("adam", loss="mse", weighting=weighting, missing="nan", jit_compile=False)
    return model


def make_data(batches, rng):
    x = rng.normal(size=(16 * batches, 16)).astype("float32")
    y = {task: rng.normal(size=(16 * batches, 1)).astype("float32") for task in TASKS}
    y["a"][::3] = np.nan
    return batched((x, y), 16)


def over_steps(weighting, steps, readings):
    """Memory along one `fit`, read after each epoch."""
    found, model = [], make_model(weighting)
    data = make_data(steps // readings, np.random.default_rng(0))
    read = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(resident()))
    model.fit(data, epochs=readings, verbose=0, callbacks=[read])
    return found


def over_models(weighting, models, by_keras=False):
    """Memory after each of many models that are built, trained for two steps, and dropped.

    With `by_keras`, of plain Keras models of the same layers, since what Keras itself keeps is not ours.
    """
    found, data = [], make_data(2, np.random.default_rng(0))
    for _ in range(models):
        model = make_model(weighting, by_keras)
        model.fit(data, verbose=0)
        del model
        keras.utils.clear_session()
        found.append(resident())
    return found


def main():
    args = options_of(__doc__, steps=10_000, models=50, weighting="mgda")
    read, rows = {}, []
    if args.steps:
        readings = 20
        read[f"{args.steps} steps"] = over_steps(args.weighting, args.steps, readings), args.steps / readings
    if args.models:
        read[f"{args.models} models"] = over_models(args.weighting, args.models), 1
        read[f"{args.models} plain models"] = over_models(args.weighting, args.models, by_keras=True), 1
    for name, (found, each) in read.items():
        warm, half, end = found[len(found) // 10], found[len(found) // 2], found[-1]
        count = (len(found) - 1 - len(found) // 2) * each
        growth = end - half
        cells = [f"{value:.1f}" for value in (warm, half, end, growth)]
        rows.append([name, *cells, f"{1024 * growth / count:.2f}"])
    header = ["over", "after a tenth", "at half", "at the end", "growth from half to end", "KiB for each"]
    print_table(f"cross_stitch, {args.weighting}: resident memory in MiB", header, rows)


if __name__ == "__main__":
    main()
