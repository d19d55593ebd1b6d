"""Step time of each builder against the sum of its parts.

Builders with a column for each task are measured against independent columns, NDDR against columns with a projection
of twice their channels after each stage, and those with experts, on as many tasks as experts, against as many columns.
Turns are interleaved and what counts is the ratio within one run.

    python recipes/benchmarks/builder_cost.py [--network mlp lenet] [--rounds 9] [--cpu-time] [--memory]
"""

import time

import shared

import keras
from keras import layers

import keras_mtl

TASKS, EXPERTS = 2, 4


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
    shape, stages = shared.NETWORKS[network]
    builder, options, count = BUILDERS[name]
    model = builder(keras.Input(shape), stages(), shared.make_heads(count), **options)
    model.compile(**shared.compile_options(count))
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
    memory = (False, "peak memory too, one process for each builder")
    args = shared.options_of(
        __doc__, network=shared.NETWORKS, batch_size=256, steps=10, rounds=9, cpu_time=shared.CPU_TIME, memory=memory
    )
    clock = time.process_time if args.cpu_time else time.perf_counter
    for network in args.network:
        rows = []
        for names in groups():
            count = BUILDERS[names[0]][2]
            data = shared.make_data(network, count, args.batch_size, args.steps)
            times = shared.step_times({name: (compiled(network, name), data) for name in names}, args.rounds, clock)
            for name, measured in times.items():
                rows.append([name, str(count), *shared.beside(measured, times[names[0]])])
                if args.memory:
                    rows[-1].append(
                        f"{shared.peak_memory(compiled, (network, name), network, count, args.batch_size):.0f}"
                    )
        header = ["model", "tasks", *shared.TIMES, *["peak MiB"] * args.memory]
        shared.print_table(f"{network}, batches of {args.batch_size}; ratios to the parts", header, rows)


if __name__ == "__main__":
    main()
