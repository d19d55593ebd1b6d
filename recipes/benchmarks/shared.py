"""What the benchmarks share: their command line, networks and data, a clock for turns, memory, tables."""

import argparse
import functools
import multiprocessing
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from common import clocked, console, in_turns, mean_and_spread, print_table  # noqa: F401
from common.running import add_options

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_mtl

TIMES = ["ms per step (median)", "ratio (median of turns)", "ratio of fastest turns"]
CPU_TIME = (False, "count the work of all cores in place of wall time")


def options_of(text, **given):
    """The options of a benchmark: its docstring, whose first line is shown, and what `add_options` takes."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    add_options(parser, given)
    return parser.parse_args()


def lenet_stages():
    """LeNet's trunk: two convolutions with pooling, one dense layer."""
    return [
        [layers.Conv2D(10, 5, activation="relu"), layers.MaxPooling2D()],
        [layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D(), layers.Flatten()],
        layers.Dense(50, activation="relu"),
    ]


def mlp_stages(width=1024, depth=4):
    return [layers.Dense(width, activation="relu") for _ in range(depth)]


NETWORKS = {
    "lenet": ((28, 28, 1), lenet_stages),
    "mlp": ((256,), mlp_stages),
}


def make_heads(num_tasks):
    return {f"t{k}": [layers.Dense(50, activation="relu"), layers.Dense(10)] for k in range(num_tasks)}


def make_model(network, num_tasks):
    """Builds a hard-sharing model."""
    shape, stages = NETWORKS[network]
    return keras_mtl.hard_sharing(keras.Input(shape), stages(), make_heads(num_tasks))


def plain(model):
    """The same layers and weights as a plain `keras.Model`."""
    return keras.Model(model.input, model.output)


def batched(arrays, batch_size):
    """A `tf.data.Dataset` of batches, in memory."""
    # What tunes itself sleeps for longer and longer times, and `fit` may wait at its end for the last of them.
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size).cache().with_options(options)


def make_data(network, num_tasks, batch_size, steps):
    shape, _ = NETWORKS[network]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size * steps, *shape)).astype("float32")
    y = {f"t{k}": rng.integers(0, 10, size=batch_size * steps) for k in range(num_tasks)}
    return batched((x, y), batch_size)


def compile_options(num_tasks):
    """Losses of the tasks, as `compile` takes them."""
    loss = {f"t{k}": keras.losses.SparseCategoricalCrossentropy(from_logits=True) for k in range(num_tasks)}
    return {"optimizer": keras.optimizers.SGD(0.01), "loss": loss, "jit_compile": False}


def step_times(models, rounds, clock=time.perf_counter, others=None):
    """Milliseconds per step of several models under `fit`, in turns.

    Args:
        models: Dict from name to a compiled model and a `tf.data.Dataset` with a known number of batches.
        rounds: Integer. How often each model has its turn.
        clock: Function that tells seconds. `time.process_time` counts the work of all cores, which a machine that
            shares its cores disturbs less.
        others: Dict from name to a function that trains in its own way and gives the milliseconds of a step.

    Returns:
        Dict from name to an array of `rounds` times.
    """
    measures = {
        name: clocked(functools.partial(model.fit, data, verbose=0), clock, int(data.cardinality()))
        for name, (model, data) in models.items()
    }
    return in_turns(measures | (others or {}), rounds)


def beside(measured, base, digits=2):
    """Cells of a table, as in `TIMES`: ratios are to another's times."""
    ratios = np.median(measured / base), measured.min() / base.min()
    return [f"{np.median(measured):.2f}", *(f"{ratio:.{digits}f}" for ratio in ratios)]


def memory(kind="VmRSS"):
    """MiB that this process has, on Linux; with "VmHWM", at most so far.

    Not `getrusage`: a new process starts from the peak of the one that it was forked from.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1024


def peak_memory(compiled, arguments, network, num_tasks, batch_size):
    """Peak memory in MiB of a process of its own that trains ten steps.

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
    compiled(*arguments).fit(make_data(network, num_tasks, batch_size, 10), verbose=0)
    return memory("VmHWM")
