"""Step time of each builder against the sum of its parts.

Builders with a column for each task are measured against independent columns; those with experts, on as many tasks as
experts, against as many columns. Turns are interleaved and what counts is the ratio within one run.

    python recipes/benchmarks/builder_cost.py [--network mlp lenet] [--rounds 9]
"""

import argparse

import keras
import numpy as np
from keras import layers
from networks import NETWORKS, compile_options, make_data, step_times
from rich.console import Console
from rich.table import Table

import keras_mtl

TASKS, EXPERTS = 2, 4
WITH_COLUMNS = {
    "soft_sharing, l2": (keras_mtl.soft_sharing, {"distance": "l2", "strength": 0.01}),
    "cross_stitch": (keras_mtl.cross_stitch, {}),
    "nddr": (keras_mtl.nddr, {}),
}
WITH_EXPERTS = {
    "mmoe": (keras_mtl.mmoe, {"experts": EXPERTS}),
    "omoe": (keras_mtl.omoe, {"experts": EXPERTS}),
}


def heads(count):
    """Heads of 10 classes."""
    return {f"t{k}": [layers.Dense(50, activation="relu"), layers.Dense(10)] for k in range(count)}


def compiled(network, builder, options, count):
    """A compiled model with `count` heads."""
    shape, stages = NETWORKS[network]
    model = builder(keras.Input(shape), stages(), heads(count), **options)
    model.compile(**compile_options(count))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    for network in args.network:
        table = Table(title=f"{network}, {TASKS} tasks, batches of {args.batch_size}")
        for column in ("model", "ms per step (median)", "ratio to its parts", "ratio of fastest turns"):
            table.add_column(column, justify="left" if column == "model" else "right")
        for builders, count, parts in (
            (WITH_COLUMNS, TASKS, f"{TASKS} columns"),
            (WITH_EXPERTS, EXPERTS, f"{EXPERTS} columns"),
        ):
            data = make_data(network, count, args.batch_size, args.steps)
            models = {parts: compiled(network, keras_mtl.hard_sharing, {"shared_depth": 0}, count)}
            for name, (builder, options) in builders.items():
                models[name] = compiled(network, builder, options, count)
            times = step_times(models, data, args.rounds)
            for name, measured in times.items():
                base = times[parts]
                ratio, fastest = np.median(measured / base), measured.min() / base.min()
                table.add_row(name, f"{np.median(measured):.2f}", f"{ratio:.2f}", f"{fastest:.2f}")
            table.add_section()
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
