"""What absent tasks cost in a step of one task.

Four tasks take turns in a model of a shared trunk and large heads. "Empty
batches" gives every task an input of its own (`keras_mtl.own_inputs` and
`mix(..., inputs="own")`), so that absent tasks have zero rows; "masked labels"
has one input, so that all heads are computed on every row and sample weights
say which labels are there. At 1, a step costs what one of a model of one task
alone does. What is above it is mostly the optimizer, which goes over the
variables of all tasks whatever the size of the batch. The turns are
interleaved; what counts is the ratio.

    python recipes/benchmarks/absent_tasks.py [--width 512] [--batch-size 128] [--steps 40] [--rounds 7] [--wall-time]
"""

import time

from shared import TIMES, beside, options_of, print_table, step_times

import keras
import numpy as np
import tensorflow as tf

import keras_mtl

TASKS = ("a", "b", "c", "d")
INPUTS = 128


def make_model(tasks, width):
    """A trunk of one layer and heads of two."""

    def hidden():
        return keras.layers.Dense(width, activation="relu")

    heads = {task: [hidden(), hidden(), keras.layers.Dense(10)] for task in tasks}
    return keras_mtl.hard_sharing(keras.Input((INPUTS,)), [hidden()], heads)


def examples(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1024, INPUTS)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, 1024)))


def cases(width, batch_size, steps, optimizer):
    data = {task: examples(seed) for seed, task in enumerate(TASKS)}
    options = {"batch_size": batch_size, "stop": steps, "seed": 0}
    alone = make_model(("a",), width), keras_mtl.data.mix({"a": data["a"]}, **options)
    masked = make_model(TASKS, width), keras_mtl.data.mix(data, "round_robin", **options)
    own = keras_mtl.own_inputs(make_model(TASKS, width))
    empty = own, keras_mtl.data.mix(data, "round_robin", inputs="own", **options)
    found = {"one task alone": alone, "four tasks, empty batches": empty, "four tasks, masked labels": masked}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model, _ in found.values():
        model.compile(optimizer, loss=loss, jit_compile=False)
    return found


def main():
    wall_time = (False, "in place of the work of all cores")
    args = options_of(__doc__, width=512, batch_size=128, steps=40, rounds=7, wall_time=wall_time)
    clock = time.perf_counter if args.wall_time else time.process_time
    for optimizer in ("sgd", "adam"):
        times = step_times(cases(args.width, args.batch_size, args.steps, optimizer), args.rounds, clock)
        rows = [[name, *beside(measured, times["one task alone"])] for name, measured in times.items()]
        title = f"{optimizer}: layers of {args.width}, batches of {args.batch_size}"
        print_table(title, ["", *TIMES], rows)


if __name__ == "__main__":
    main()
