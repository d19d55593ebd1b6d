"""TorchJD's solvers on the same Gramians, timed in a process of their own, a `torchjd_steps.Worker`.

It is asked `<solver> <tasks> <repeats>`, and answers with milliseconds a call, or the name of the error.
"""

import statistics
import sys
import time

import numpy as np

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


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


def _makers():
    import torch
    import torchjd.aggregation as theirs

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


def _serve(clock):
    import torch

    makers = _makers()
    for line in sys.stdin:
        name, size, repeats = line.split()
        matrices = [torch.tensor(rows) for rows in jacobians(int(size))]
        try:
            answer = f"{milliseconds(makers[name](int(size)), matrices, int(repeats), CLOCKS[clock]):.2f}"
        except Exception as error:  # whatever a solver of theirs raises belongs in the table
            answer = type(error).__name__
        print(answer, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
