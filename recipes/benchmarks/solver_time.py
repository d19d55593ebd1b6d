"""Time of every solver on the Gramian inside a `tf.function`, next to TorchJD's where it is installed.

For numbers that can be compared, give the script one core:

    taskset -c 0 python recipes/benchmarks/solver_time.py

Options: `--xla` adds the time with `jit_compile=True` and the seconds that compiling took, `--sizes 2 10 40` sets the
numbers of tasks, `--repeats 150` the number of timed calls, and `--cpu-time` counts the process's own time only, for a
machine that others use too. Each figure is the median over the calls, of three Gramians of conflicting task gradients,
in milliseconds.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from keras_mtl import weighting

SOLVERS = {
    "mgda": weighting.MGDA,
    "pcgrad": weighting.PCGrad,
    "gradvac": weighting.GradVac,
    "cagrad": weighting.CAGrad,
    "imtl_g": weighting.IMTLG,
    "nash": weighting.NashMTL,
    "aligned": weighting.AlignedMTL,
    "fairgrad": weighting.FairGrad,
    "upgrad": weighting.UPGrad,
    "dualproj": weighting.DualProj,
    "config": weighting.ConFIG,
}


def jacobians(size, parameters=1000):
    """Task gradients that conflict: most of what they have in common is taken away."""
    for seed in range(3):
        rows = np.random.default_rng(seed).standard_normal((size, parameters))
        yield rows - 0.9 * rows.mean(axis=0)


def milliseconds(function, arguments, repeats, clock):
    """Median time of a call, after two calls to warm up."""
    times = []
    for argument in arguments:
        function(argument), function(argument)
        for _ in range(repeats // len(arguments)):
            start = clock()
            function(argument)
            times.append(1e3 * (clock() - start))
    return statistics.median(times)


def ours(name, size, repeats, clock, jit_compile=False):
    """Milliseconds a call and seconds of the first call."""
    solver = SOLVERS[name]()
    solver.build((size,))
    function = tf.function(solver.solve, jit_compile=jit_compile)
    gramians = [tf.constant(rows @ rows.T) for rows in jacobians(size)]
    start = time.perf_counter()
    function(gramians[0])
    first = time.perf_counter() - start
    return milliseconds(lambda gramian: function(gramian).numpy(), gramians, repeats, clock), first


def torchjd_solvers():
    """TorchJD's counterparts by our names; empty where it is not installed."""
    try:
        import torch
        import torchjd.aggregation as theirs
    except ImportError:
        return {}
    torch.set_num_threads(1)

    def maker(name, *arguments):
        return lambda size: getattr(theirs, name)(*arguments)

    return {
        "mgda": maker("MGDA"),
        "pcgrad": maker("PCGrad"),
        "gradvac": maker("GradVac"),
        "cagrad": maker("CAGrad", 0.5),
        "imtl_g": maker("IMTLG"),
        "nash": lambda size: theirs.NashMTL(n_tasks=size),
        "aligned": maker("AlignedMTL"),
        "fairgrad": maker("FairGrad", 1.0),
        "upgrad": maker("UPGrad"),
        "dualproj": maker("DualProj"),
        "config": maker("ConFIG"),
    }


def theirs(solvers, name, size, repeats, clock):
    """TorchJD's milliseconds as text."""
    if name not in solvers:
        return "not installed"
    import torch

    matrices = [torch.tensor(rows) for rows in jacobians(size)]
    try:
        return f"{milliseconds(solvers[name](size), matrices, min(repeats, 30), clock):.2f}"
    except Exception as error:  # Whatever a solver of theirs raises belongs in the table.
        return type(error).__name__


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 10, 40])
    parser.add_argument("--methods", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    parser.add_argument("--repeats", type=int, default=150)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    clock = time.process_time if options.cpu_time else time.perf_counter
    reference = torchjd_solvers()
    print(f"{'method':10}{'K':>4}{'graph ms':>10}" + ("   xla ms  compile s" if options.xla else "") + "   TorchJD ms")
    for name in options.methods:
        for size in options.sizes:
            line = f"{name:10}{size:4}{ours(name, size, options.repeats, clock)[0]:10.2f}"
            if options.xla:
                line += "{:9.2f}{:11.1f}".format(*ours(name, size, options.repeats, clock, jit_compile=True))
            print(f"{line}   {theirs(reference, name, size, options.repeats, clock)}", flush=True)


if __name__ == "__main__":
    main()
