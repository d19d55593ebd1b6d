"""Numeric equality on whatever devices TensorFlow sees.

Prints versions and devices; then, for each device, how far training there is from training on the CPU. Without a GPU it
says so and checks the CPU against itself, which tests the script and nothing else.

    python recipes/benchmarks/gpu.py [--weightings equal uncertainty mgda nash graddrop] [--quick]
"""

import sys

from shared import compile_options, console, make_data, make_model, options_of, print_table

import keras
import numpy as np
import tensorflow as tf

import keras_mtl

TASKS = 2
MODES = {"graph": False, "XLA": True}


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
    rows, fine = [], True
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
                    numbers = (f"{value:.1e}" for value in found)
                    rows.append([device, network, weighting, mode, *numbers, "equal" if good else "differs"])
    header = ["device", "network", "weighting", "mode", "weights", "logs", ""]
    print_table(f"{steps} steps against the same on CPU:0, float32, largest relative difference", header, rows)
    return fine


def main():
    args = options_of(
        __doc__,
        weightings=["equal", "uncertainty", "mgda", "nash", "graddrop"],
        networks=["lenet", "mlp"],
        steps=10,
        tolerance=(1e-3, "of equality after the steps"),
        quick=(False, "one network, one weighting, few steps"),
    )
    if args.quick:
        args.networks, args.weightings, args.steps = ["lenet"], ["mgda"], 3
    tf.config.experimental.enable_tensor_float_32_execution(False)  # it has 10 bits; equality is asked of float32
    print_devices()
    gpus = [f"GPU:{i}" for i in range(len(tf.config.list_logical_devices("GPU")))]
    if not gpus:
        console.print("TensorFlow sees no GPU: what follows says nothing about GPUs.")
    fine = check_equality(gpus or ["CPU:0"], args.networks, args.weightings, args.steps, args.tolerance)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
