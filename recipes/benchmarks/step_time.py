"""Time and memory of a training step: every kind of weighting, plain Keras, TorchJD.

The turns are interleaved and what counts is the ratio within one run. TorchJD
is measured on the same network, batch and tasks where it is installed. Both
run on a GPU where they see one; `TF_FORCE_GPU_ALLOW_GROWTH=true` lets them share it.

    python recipes/benchmarks/step_time.py [--network lenet mlp] [--tasks 2 8]
    python recipes/benchmarks/step_time.py --growth
    python recipes/benchmarks/step_time.py --backend jax [--variants equal upgrad "upgrad, features"]
"""

import argparse
import functools
import os
import subprocess
import sys
import time

import keras
import numpy as np
import torchjd_steps
from networks import NETWORKS, compile_options, make_data, make_model, peak_memory, plain, step_times
from rich.console import Console
from rich.table import Table

import keras_mtl

VARIANTS = {
    "equal": {},
    "uncertainty": {"weighting": "uncertainty"},
    "dwa": {"weighting": "dwa"},
    "famo": {"weighting": "famo"},
    "stch": {"weighting": "stch"},
    "pbi": {"weighting": "pbi"},
    "cosmos": {"weighting": "cosmos"},
    "mgda": {"weighting": "mgda"},
    "pcgrad": {"weighting": "pcgrad"},
    "fairgrad": {"weighting": "fairgrad"},
    "cagrad": {"weighting": "cagrad"},
    "nash": {"weighting": "nash"},
    "upgrad": {"weighting": "upgrad"},
    "pcd": {"weighting": "pcd"},
    "upgrad, smoothing=0.9": {"weighting": keras_mtl.weighting.serialize(keras_mtl.weighting.UPGrad(smoothing=0.9))},
    "upgrad, features": {"weighting": "upgrad", "gradients": "features"},
    "upgrad, every=4": {"weighting": keras_mtl.weighting.serialize(keras_mtl.weighting.UPGrad(every=4))},
    "upgrad, gramian_fraction=1/8": {"weighting": "upgrad", "gramian_fraction": 0.125},
    "mgda, features": {"weighting": "mgda", "gradients": "features"},
}
GROWTH = ("equal", "upgrad", "upgrad, features", "upgrad, gramian_fraction=1/8")


def compiled(network, num_tasks, name, jit_compile=False):
    """A model compiled as one of the variants, or as plain Keras."""
    model = make_model(network, num_tasks)
    options = {**compile_options(num_tasks), "jit_compile": jit_compile}
    if name == "plain Keras":
        model = plain(model)
        model.compile(**options)
        return model
    model.compile(**options, **VARIANTS[name])
    return model


def measure(network, num_tasks, names, batch_size, steps, rounds, torch_names, clock, jit_compile):
    """Milliseconds per step of every variant, `rounds` turns each, and seconds of the first step, tracing included."""
    models = {name: compiled(network, num_tasks, name, jit_compile) for name in ("plain Keras", *names)}
    worker = torchjd_steps.Worker(network, num_tasks, batch_size, clock) if torch_names else None
    others = {f"TorchJD {name}": functools.partial(worker.time_turn, name) for name in torch_names}
    data = make_data(network, num_tasks, batch_size, steps)
    first = {}
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(data.take(1), epochs=1, verbose=0)
        first[name] = time.perf_counter() - start
    times = step_times(models, data, rounds, time.process_time if clock == "cpu" else time.perf_counter, others)
    if worker:
        worker.close()
    return times, first


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--growth", action="store_true", help="few variants, 2 to 64 tasks")
    parser.add_argument("--cpu-time", action="store_true", help="count the work of all cores in place of wall time")
    parser.add_argument("--memory", action="store_true", help="peak memory too, one process for each variant")
    parser.add_argument("--jit-compile", action="store_true", help="compile the Keras models with XLA")
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default=keras.config.backend())
    args = parser.parse_args()
    if args.backend != keras.config.backend():  # Keras reads it once, when it is imported
        environment = {**os.environ, "KERAS_BACKEND": args.backend}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    if args.backend == "jax":  # where a step that is not compiled is an eager one
        args.jit_compile = True
    if args.growth:
        args.tasks = [2, 4, 8, 16, 32, 64]
    names = GROWTH if args.growth else args.variants
    torch_names = ()
    if torchjd_steps.available():
        torch_names = ("plain sum", "UPGrad") if args.growth else torchjd_steps.choices()
    else:
        print("torch and torchjd are not installed: TorchJD is left out.")

    for network in args.network:
        for num_tasks in args.tasks:
            clock = "cpu" if args.cpu_time else "wall"
            sizes = (args.batch_size, args.steps, args.rounds)
            times, first = measure(network, num_tasks, names, *sizes, torch_names, clock, args.jit_compile)
            title = f"{args.backend}, {network}, {num_tasks} tasks, batches of {args.batch_size}"
            title += ", XLA" * args.jit_compile
            table = Table(title=title)
            columns = ["variant", "ms per step (median)", "ratio to plain", "ratio of fastest turns", "first step, s"]
            for column in columns + ["peak MiB"] * args.memory:
                table.add_column(column, justify="left" if column == "variant" else "right")
            for name, measured in times.items():
                base = times["TorchJD plain sum" if name.startswith("TorchJD") else "plain Keras"]
                row = [name, f"{np.median(measured):.2f}", f"{np.median(measured / base):.2f}"]
                row.append(f"{measured.min() / base.min():.2f}")
                row.append(f"{first[name]:.1f}" if name in first else "")
                if args.memory and not name.startswith("TorchJD"):
                    peak = peak_memory(
                        compiled, (network, num_tasks, name, args.jit_compile), network, num_tasks, args.batch_size
                    )
                    row.append(f"{peak:.0f}")
                table.add_row(*row)
            Console(width=110).print(table)


if __name__ == "__main__":
    main()
