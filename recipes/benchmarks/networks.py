"""The networks, data and clock that the benchmarks share."""

import multiprocessing
import pathlib
import re
import time

import keras
import numpy as np
from keras import layers

import keras_mtl


def lenet_stages():
    """LeNet's trunk: two convolutions with pooling, one dense layer."""
    return [
        [layers.Conv2D(10, 5, activation="relu"), layers.MaxPooling2D()],
        [layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D(), layers.Flatten()],
        layers.Dense(50, activation="relu"),
    ]


def mlp_stages(width=1024, depth=4):
    """A trunk of dense layers."""
    return [layers.Dense(width, activation="relu") for _ in range(depth)]


NETWORKS = {
    "lenet": ((28, 28, 1), lenet_stages),
    "mlp": ((256,), mlp_stages),
}


def make_model(network, num_tasks):
    """Builds a hard-sharing model with `num_tasks` heads of 10 classes."""
    shape, stages = NETWORKS[network]
    heads = {f"t{k}": [layers.Dense(50, activation="relu"), layers.Dense(10)] for k in range(num_tasks)}
    return keras_mtl.hard_sharing(keras.Input(shape), stages(), heads)


def plain(model):
    """The same layers and weights as a plain `keras.Model`."""
    return keras.Model(model.input, model.output)


def make_data(network, num_tasks, batch_size, steps):
    """A `tf.data.Dataset` of random batches, in memory."""
    import tensorflow as tf

    shape, _ = NETWORKS[network]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size * steps, *shape)).astype("float32")
    y = {f"t{k}": rng.integers(0, 10, size=batch_size * steps) for k in range(num_tasks)}
    # What tunes itself sleeps for longer and longer times, and `fit` may wait at its end for the last of them.
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).cache().with_options(options)


def compile_options(num_tasks):
    """Losses of the tasks, as `compile` takes them."""
    loss = {f"t{k}": keras.losses.SparseCategoricalCrossentropy(from_logits=True) for k in range(num_tasks)}
    return {"optimizer": keras.optimizers.SGD(0.01), "loss": loss, "jit_compile": False}


def step_times(models, data, rounds=7, clock=time.perf_counter, others=None):
    """Milliseconds per step of several models under `fit`, in turns.

    Args:
        models: Dict from name to compiled model.
        data: A `tf.data.Dataset` with a known number of batches.
        rounds: Integer. How often each model has its turn.
        clock: Function that tells seconds. `time.process_time` counts the work
            of all cores, which a machine that shares its cores disturbs less.
        others: Dict from name to a function that trains some number of steps in
            its own way and returns the milliseconds of one. Defaults to `None`.

    Returns:
        Dict from name to an array of `rounds` times.
    """
    steps = int(data.cardinality())
    others = others or {}
    for model in models.values():
        model.fit(data, epochs=1, verbose=0)
    for turn in others.values():
        turn(2)
    times = {name: [] for name in (*models, *others)}
    for _ in range(rounds):
        for name, model in models.items():
            start = clock()
            model.fit(data, epochs=1, verbose=0)
            times[name].append(1000 * (clock() - start) / steps)
        for name, turn in others.items():
            times[name].append(turn(steps))
    return {name: np.array(values) for name, values in times.items()}


def peak_memory(compiled, arguments, network, num_tasks, batch_size):
    """Peak memory in MiB of a process of its own that trains ten steps, on Linux.

    Args:
        compiled: Function of a module that makes the compiled model.
        arguments: Tuple of what it takes.
        network: String. The network whose data the model trains on.
        num_tasks: Integer. Number of tasks.
        batch_size: Integer. Examples in a batch.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_train_alone, (compiled, arguments, network, num_tasks, batch_size))


def _train_alone(compiled, arguments, network, num_tasks, batch_size):
    compiled(*arguments).fit(make_data(network, num_tasks, batch_size, 10), epochs=1, verbose=0)
    # Not `getrusage`: a new process starts from the peak of the one that it was forked from.
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
