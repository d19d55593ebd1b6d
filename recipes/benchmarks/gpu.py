"""Step times and numeric equality on whatever devices TensorFlow sees.

Prints versions and devices; then, for each device, how far training there is from training on the CPU, and the times of
a step. Without a GPU it says so and checks the CPU against itself, which tests the script and nothing else.

    python recipes/benchmarks/gpu.py [--weightings equal uncertainty mgda nash graddrop] [--quick]
"""

import argparse
import sys

import keras
import numpy as np
import tensorflow as tf
from networks import compile_options, make_data, make_model, plain, step_times
from rich.console import Console
from rich.table import Table

import keras_mtl

console = Console(width=110)
TASKS = 2
MODES = {"graph": False, "XLA": True}
PARTS = ("equality", "time")


def print_devices():
    """Versions, and what the devices say of themselves."""
    console.print(
        f"Python {sys.version.split()[0]}, TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"NumPy {np.__version__}, keras_mtl {keras_mtl.__version__}"
    )
    build = tf.sysconfig.get_build_info()
    console.print(f"built for CUDA {build.get('cuda_version', '-')}, cuDNN {build.get('cudnn_version', '-')}")
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        console.print(f"{device.name}: {details.get('device_name', 'no details')}")


def trained(device, network, weighting, steps, jit_compile=False):
    """Weights and logs after some steps on a device, from the same start on each."""
    with tf.device(device):
        keras.utils.set_random_seed(0)
        model = make_model(network, TASKS)
        options = {**compile_options(TASKS), "jit_compile": jit_compile}
        model.compile(**options, weighting=_seeded(weighting))
        logs = model.fit(make_data(network, TASKS, 32, steps), verbose=0, shuffle=False).history
    return np.concatenate([np.ravel(w) for w in model.get_weights()]), {k: v[-1] for k, v in logs.items()}


def _seeded(name):
    draws = name in ("graddrop", "gradvac", "pcgrad", "random")
    return type(keras_mtl.weighting.get(name))(**{"seed": 0} if draws else {})


def difference(found, expected):
    """The largest difference of weights, relative to the largest weight, and of logs, relative to each."""
    (weights, logs), (weights_then, logs_then) = found, expected
    of_logs = max(abs(logs[k] - v) / max(abs(v), 1e-3) for k, v in logs_then.items())
    return np.abs(weights - weights_then).max() / np.abs(weights_then).max(), of_logs


def check_equality(devices, networks, weightings, steps, tolerance):
    """A table of differences to the CPU; whether all are below the tolerance."""
    table = Table(title=f"{steps} steps against the same on CPU:0, float32, largest relative difference")
    for column in ("device", "network", "weighting", "mode", "weights", "logs", ""):
        table.add_column(column)
    fine = True
    for network in networks:
        for weighting in weightings:
            expected = trained("CPU:0", network, weighting, steps)
            for device in devices:
                for mode, jit_compile in MODES.items():
                    if jit_compile and weighting == "graddrop":
                        continue  # draws other random numbers from the same seed
                    found = difference(trained(device, network, weighting, steps, jit_compile=jit_compile), expected)
                    good = max(found) < tolerance
                    fine = fine and good
                    row = [device, network, weighting, mode, *(f"{value:.1e}" for value in found)]
                    table.add_row(*row, "equal" if good else "differs")
    console.print(table)
    return fine


def time_steps(device, network, weightings, batch_size, steps, rounds):
    """A table of step times on one device, against plain Keras of the same mode."""
    models = {}
    with tf.device(device):
        for mode, jit_compile in MODES.items():
            models["plain Keras", mode] = plain(make_model(network, TASKS))
            for weighting in weightings:
                models[weighting, mode] = make_model(network, TASKS)
            for name in ("plain Keras", *weightings):
                own = {} if name == "plain Keras" else {"weighting": _seeded(name)}
                models[name, mode].compile(**{**compile_options(TASKS), "jit_compile": jit_compile}, **own)
        times = step_times(models, make_data(network, TASKS, batch_size, steps), rounds)
    table = Table(
        title=f"ms per step (and ratio), medians: {device}, {network}, {TASKS} tasks, batches of {batch_size}"
    )
    for column in ("variant", *MODES):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in ("plain Keras", *weightings):
        row = [name]
        for mode in MODES:
            ratio = np.median(times[name, mode] / times["plain Keras", mode])
            row.append(f"{np.median(times[name, mode]):.2f} ({ratio:.2f})")
        table.add_row(*row)
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weightings", nargs="+", default=["equal", "uncertainty", "mgda", "nash", "graddrop"])
    parser.add_argument("--networks", nargs="+", default=["lenet", "mlp"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of equality after the steps")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="one network, two weightings, few steps")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.weightings, args.steps, args.rounds, args.batch_size = ["lenet"], ["mgda"], 3, 2, 32

    tf.config.experimental.enable_tensor_float_32_execution(False)  # it has 10 bits; equality is asked of float32
    print_devices()
    gpus = [f"GPU:{i}" for i in range(len(tf.config.list_logical_devices("GPU")))]
    if not gpus:
        console.print("TensorFlow sees no GPU: what follows says nothing about GPUs.")
    devices = gpus or ["CPU:0"]
    fine = True
    if "equality" in args.parts:
        fine = check_equality(devices, args.networks, args.weightings, min(args.steps, 10), args.tolerance)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    for device in devices[:1] if "time" in args.parts else ():
        for network in args.networks:
            time_steps(device, network, args.weightings, args.batch_size, args.steps, args.rounds)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
