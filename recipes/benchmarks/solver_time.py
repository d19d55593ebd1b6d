"""Time of every solver on the Gramian inside a `tf.function`, next to TorchJD's where it is installed.

For numbers that can be compared, give the script one core:

    taskset -c 0 python recipes/benchmarks/solver_time.py

Options: `--xla` adds the time with `jit_compile=True` and the seconds that
compiling took, `--sizes 2 10 40` sets the numbers of tasks, `--repeats 15` the
number of timed calls of 20 solves each, and `--cpu-time` counts the process's
own time only, for a machine that others use too. Each figure is the median, in
milliseconds, over three Gramians of conflicting task gradients.
"""

import time

from shared import options_of

import tensorflow as tf
import torchjd_solvers
from torchjd_solvers import CLOCKS, jacobians, milliseconds
from torchjd_steps import Worker, available

from keras_mtl import weighting

LOOP = 20
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


def ours(name, size, repeats, clock, jit_compile=False):
    """Milliseconds a solve inside one graph, and seconds of the first call.

    The graph solves `LOOP` times, as a training loop does, so that the call of
    the graph itself does not count.
    """
    solver = SOLVERS[name]()
    solver.build((size,))
    solve = tf.function(solver.solve, jit_compile=jit_compile)

    @tf.function
    def many(gramian):
        total = tf.zeros((size,), tf.float64)
        for _ in tf.range(LOOP):
            # Depends on the last solution, so that none is left out.
            total += solve(gramian * (1.0 + 1e-12 * tf.reduce_sum(total)))
        return total

    gramians = [tf.constant(rows @ rows.T) for rows in jacobians(size)]
    start = time.perf_counter()
    many(gramians[0])
    first = time.perf_counter() - start
    return milliseconds(lambda gramian: many(gramian).numpy(), gramians, repeats, clock) / LOOP, first


def main():
    options = options_of(__doc__, sizes=[2, 10, 40], methods=SOLVERS, repeats=15, xla=False, cpu_time=False)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kind = "cpu" if options.cpu_time else "wall"
    clock = CLOCKS[kind]
    theirs = Worker(torchjd_solvers.__file__, kind) if available() else None
    print(f"{'method':10}{'K':>4}{'graph ms':>10}" + ("   xla ms  compile s" if options.xla else "") + "   TorchJD ms")
    for name in options.methods:
        for size in options.sizes:
            line = f"{name:10}{size:4}{ours(name, size, options.repeats, clock)[0]:10.2f}"
            if options.xla:
                line += "{:9.2f}{:11.1f}".format(*ours(name, size, options.repeats, clock, jit_compile=True))
            reference = theirs.ask(f"{name} {size} 30") if theirs else "not installed"
            print(f"{line}   {reference}", flush=True)


if __name__ == "__main__":
    main()
