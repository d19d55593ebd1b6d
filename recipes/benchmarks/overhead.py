"""What keras_mtl costs over plain Keras `fit` of the same model.

Every variant trains the same functional model on the same batches; the turns
are interleaved, and what counts is the ratio to plain Keras within one run.

    python recipes/benchmarks/overhead.py [--network lenet] [--tasks 2] [--cpu-time]
"""

import argparse
import time

import numpy as np
from networks import NETWORKS, compile_options, make_data, make_model, plain, step_times
from rich.console import Console
from rich.table import Table

VARIANTS = {
    "equal": {"weighting": "equal"},
    "uncertainty": {"weighting": "uncertainty"},
    "mgda, parameters": {"weighting": "mgda"},
    "mgda, last_shared": {"weighting": "mgda", "gradients": "last_shared"},
    "mgda, features": {"weighting": "mgda", "gradients": "features"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="lenet")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="count the work of all cores in place of wall time")
    args = parser.parse_args()

    data = make_data(args.network, args.tasks, args.batch_size, args.steps)
    models = {"plain Keras": plain(make_model(args.network, args.tasks))}
    models["plain Keras"].compile(**compile_options(args.tasks))
    for name, options in VARIANTS.items():
        models[name] = make_model(args.network, args.tasks)
        models[name].compile(**compile_options(args.tasks), **options)
    clock = time.process_time if args.cpu_time else time.perf_counter
    times = step_times(models, data, args.rounds, clock)

    table = Table(title=f"{args.network}, {args.tasks} tasks, batches of {args.batch_size}")
    for column in ("variant", "ms per step (median)", "ratio (median of rounds)", "ratio of fastest rounds"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    base = times["plain Keras"]
    for name, measured in times.items():
        ratio, fastest = np.median(measured / base), measured.min() / base.min()
        table.add_row(name, f"{np.median(measured):.2f}", f"{ratio:.3f}", f"{fastest:.3f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
