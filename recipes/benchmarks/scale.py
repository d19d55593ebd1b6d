"""Time and memory of building, tracing and training against the number of tasks and of stages.

Every size is measured in a process of its own, so that its peak of memory is its own. Growth is told as the exponent p
of size ** p between the smallest size and the largest, and between the two largest: 1 is linear. Fixed costs keep the
first below 1; the second says what is to come.

    python recipes/benchmarks/scale.py [--tasks 2 8 32 128] [--stages 2 8 32] [--weighting equal uncertainty mgda]
"""

import itertools
import json
import math
import operator
import os
import subprocess
import sys
import time

from shared import memory, options_of, print_table

import keras
import numpy as np
from keras import layers

import keras_mtl

COLUMNS = ("build s", "compile s", "trace s", "step ms", "peak MiB")


def measure(builder, weighting, tasks, stages, gradients):
    """One size, in this process: seconds of building, compiling and the first step, milliseconds of a later one."""
    names = [f"t{k}" for k in range(tasks)]
    start = time.process_time()
    model = operator.attrgetter(builder)(keras_mtl)(
        keras.Input((16,)),
        [layers.Dense(16, activation="relu") for _ in range(stages)],
        {name: layers.Dense(1) for name in names},
    )
    built = time.process_time()
    model.compile("sgd", loss="mse", weighting=weighting, gradients=gradients, jit_compile=False)
    compiled = time.process_time()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 16)).astype("float32")
    y = {name: rng.normal(size=(32, 1)).astype("float32") for name in names}
    model.train_on_batch(x, y)
    traced = time.process_time()
    steps = 10
    iterator = itertools.repeat(keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y)))
    model.train_function(iterator)
    begin = time.process_time()
    for _ in range(steps):
        model.train_function(iterator)
    step = (time.process_time() - begin) / steps
    return [built - start, compiled - built, traced - compiled, 1000 * step, memory("VmHWM")]


def alone(*arguments):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes, values):
    """The p of size ** p through two points; NaN where there is nothing to tell."""
    (small, large), (first, last) = sizes, values
    return math.log(last / first) / math.log(large / small) if min(first, last) > 0 else math.nan


def show(title, sizes, rows):
    """A table of the sizes and how each column grows."""
    cells = [[f"{value:.2f}" for value in times] + [f"{peak:.0f}"] for *times, peak in rows]
    table = [[str(size), *row] for size, row in zip(sizes, cells, strict=True)]
    for name, first in (("p, all", 0), ("p, last", -2)):
        if len(sizes) > 1:
            pairs = [((sizes[first], sizes[-1]), (rows[first][i], rows[-1][i])) for i in range(len(COLUMNS))]
            table.append([name, *(f"{exponent(*pair):.2f}" for pair in pairs)])
    print_table(title, ["size", *COLUMNS], table)


def main():
    args = options_of(
        __doc__,
        tasks=[2, 8, 32, 128],
        stages=[2, 8, 32],
        builder=["hard_sharing"],
        weighting=["equal", "uncertainty", "mgda"],
        gradients="parameters",
        one=("", "a size as JSON, to be measured in this process"),
    )
    if args.one:
        print(json.dumps(measure(*json.loads(args.one))))
        return
    for builder in args.builder:
        for weighting in args.weighting:
            for what, sizes in (("tasks, 2 stages", args.tasks), ("stages, 4 tasks", args.stages)):
                sized = [(size, 2) if what.startswith("tasks") else (4, size) for size in sizes]
                rows = [alone(builder, weighting, *size, args.gradients) for size in sized]
                if sizes:
                    show(f"{builder}, {weighting}, {args.gradients}: number of {what}; CPU time", sizes, rows)


if __name__ == "__main__":
    main()
