"""Step time of each builder against the sum of its parts.

Builders with a column for each task are measured against independent columns, NDDR against columns with a projection
of twice their channels after each stage, and those with experts, on as many tasks as experts, against as many columns.
Turns are interleaved and what counts is the ratio within one run.

    python recipes/benchmarks/builder_cost.py [--network mlp lenet] [--rounds 9] [--cpu-time] [--memory]
"""

import argparse
import time

import keras
import numpy as np
from keras import layers
from networks import NETWORKS, compile_options, make_data, peak_memory, step_times
from rich.console import Console
from rich.table import Table

import keras_mtl

TASKS, EXPERTS = 2, 4


def heads(count):
    """Heads of 10 classes."""
    return {f"t{k}": [layers.Dense(50, activation="relu"), layers.Dense(10)] for k in range(count)}


def projected_columns(inputs, stages, heads):
    """Columns that each project their own features, joined with themselves, as NDDR does those of two columns."""
    outputs = {}
    for task, head in heads.items():
        x = inputs
        for stage in stages:
            for layer in stage if isinstance(stage, list) else [stage]:
                x = layer.__class__.from_config({**layer.get_config(), "name": f"{layer.name}_{task}"})(x)
            x = layers.Dense(x.shape[-1])(layers.Concatenate()([x, x]))
        for layer in head:
            x = layer(x)
        outputs[task] = x
    return keras_mtl.MultiTaskModel(inputs, outputs)


BUILDERS = {
    f"{TASKS} columns": (keras_mtl.hard_sharing, {"shared_depth": 0}, TASKS),
    "soft_sharing, l2": (keras_mtl.soft_sharing, {"distance": "l2", "strength": 0.01}, TASKS),
    "cross_stitch": (keras_mtl.cross_stitch, {}, TASKS),
    'cross_stitch, per="layer"': (keras_mtl.cross_stitch, {"per": "layer"}, TASKS),
    f"{TASKS} columns with projections": (projected_columns, {}, TASKS),
    "nddr": (keras_mtl.nddr, {}, TASKS),
    f"{EXPERTS} columns": (keras_mtl.hard_sharing, {"shared_depth": 0}, EXPERTS),
    "mmoe": (keras_mtl.mmoe, {"experts": EXPERTS}, EXPERTS),
    "omoe": (keras_mtl.omoe, {"experts": EXPERTS}, EXPERTS),
}


def compiled(network, name):
    """A compiled model."""
    shape, stages = NETWORKS[network]
    builder, options, count = BUILDERS[name]
    model = builder(keras.Input(shape), stages(), heads(count), **options)
    model.compile(**compile_options(count))
    return model


def groups():
    """Names of the builders, each group with its parts first."""
    found = []
    for name in BUILDERS:
        if "columns" in name:
            found.append([])
        found[-1].append(name)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="count the work of all cores in place of wall time")
    parser.add_argument("--memory", action="store_true", help="peak memory too, one process for each builder")
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    for network in args.network:
        table = Table(title=f"{network}, batches of {args.batch_size}")
        columns = ["model", "tasks", "ms per step (median)", "ratio to its parts", "ratio of fastest turns"]
        for column in columns + ["peak MiB"] * args.memory:
            table.add_column(column, justify="left" if column == "model" else "right")
        for names in groups():
            count = BUILDERS[names[0]][2]
            data = make_data(network, count, args.batch_size, args.steps)
            times = step_times({name: compiled(network, name) for name in names}, data, args.rounds, clock)
            for name, measured in times.items():
                base = times[names[0]]
                ratio, fastest = np.median(measured / base), measured.min() / base.min()
                row = [name, str(count), f"{np.median(measured):.2f}", f"{ratio:.2f}", f"{fastest:.2f}"]
                if args.memory:
                    row.append(f"{peak_memory(compiled, (network, name), network, count, args.batch_size):.0f}")
                table.add_row(*row)
            table.add_section()
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
