"""The same training steps in TorchJD, where torch and torchjd are installed."""

import importlib.util
import subprocess
import sys
import time

import numpy as np

SCALARIZERS = ("UW", "DWA", "FAMO", "STCH", "PBI", "COSMOS")
AGGREGATORS = ("UPGrad", "UPGrad, one task at a time", "UPGrad, smoothed", "MGDA", "PCGrad", "FairGrad", "CAGrad")
CHOICES = ("plain sum", *SCALARIZERS, *AGGREGATORS, "NashMTL", "PCD")
NEEDS = {
    "UPGrad": ("qpsolvers", "quadprog"),
    "UPGrad, one task at a time": ("qpsolvers", "quadprog"),
    "UPGrad, smoothed": ("qpsolvers", "quadprog"),
    "CAGrad": ("cvxpy",),
    "NashMTL": ("cvxpy", "ecos"),
}


def available():
    """Whether torch and torchjd can be imported."""
    return all(importlib.util.find_spec(name) for name in ("torch", "torchjd"))


def choices():
    """Those of `CHOICES` whose solvers are installed."""
    return tuple(name for name in CHOICES if all(importlib.util.find_spec(need) for need in NEEDS.get(name, ())))


def device():
    """Where torch's steps run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def make_steps(network, num_tasks, batch_size):
    """Makes one function for each variant that runs one training step, on a GPU where there is one.

    Args:
        network: `"lenet"` or `"mlp"`.
        num_tasks: Integer.
        batch_size: Integer.

    Returns:
        Dict from name to a function without arguments.
    """
    import torch

    torch.manual_seed(0)
    torch.set_default_device(device())
    shape, trunk, width = _trunk(network)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(batch_size, *shape)), dtype=torch.float32)
    y = [torch.tensor(rng.integers(0, 10, size=batch_size)) for _ in range(num_tasks)]
    heads = [torch.nn.Sequential(torch.nn.Linear(width, 50), torch.nn.ReLU(), torch.nn.Linear(50, 10)) for _ in y]
    parameters = [*trunk.parameters(), *(p for head in heads for p in head.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=0.01)

    def losses():
        features = trunk(x)
        return features, [torch.nn.functional.cross_entropy(h(features), t) for h, t in zip(heads, y, strict=True)]

    def plain():
        optimizer.zero_grad()
        sum(losses()[1]).backward()
        optimizer.step()

    steps = {"plain sum": plain}
    for name in choices():
        if name in SCALARIZERS:
            steps[name] = _scalarized_step(name, losses, parameters, num_tasks)
        elif name != "plain sum":
            steps[name] = _jacobian_step(name, losses, trunk, optimizer, num_tasks)
    return steps


def _scalarized_step(name, losses, parameters, num_tasks):
    import torch
    from torchjd import scalarization

    even = torch.full((num_tasks,), 1 / num_tasks)
    scalarizer = {
        "UW": lambda: scalarization.UW(num_tasks),
        "DWA": scalarization.DWA,
        "FAMO": lambda: scalarization.FAMO(num_tasks),
        "STCH": lambda: scalarization.STCH(0.1, even),
        "PBI": lambda: scalarization.PBI(5.0, even),
        "COSMOS": lambda: scalarization.COSMOS(1.0, even),
    }[name]()
    own = [] if name == "FAMO" else list(scalarizer.parameters())  # FAMO steps its own
    optimizer = torch.optim.SGD([*parameters, *own], lr=0.01)

    def step():
        optimizer.zero_grad()
        scalarizer(torch.stack(losses()[1])).backward()
        optimizer.step()
        if name == "FAMO":
            with torch.no_grad():
                after = torch.stack(losses()[1])
            scalarizer.update(after)

    return step


def _jacobian_step(name, losses, trunk, optimizer, num_tasks):
    import torchjd.aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    arguments = {"CAGrad": {"c": 0.5}, "NashMTL": {"n_tasks": num_tasks}, "FairGrad": {"alpha": 1.0}}
    if name == "UPGrad, smoothed":
        weighting = torchjd.aggregation.CRMOGMWeighting(torchjd.aggregation.UPGradWeighting())
        aggregator = torchjd.aggregation.GramianWeightedAggregator(weighting)
    else:
        aggregator = getattr(torchjd.aggregation, name.split(",")[0])(**arguments.get(name, {}))
    options = {"parallel_chunk_size": 1} if "one task" in name else {}

    def step():
        optimizer.zero_grad()
        features, values = losses()
        mtl_backward(values, features=features, **options)
        jac_to_grad(trunk.parameters(), aggregator)
        optimizer.step()

    return step


def _trunk(network):
    from torch import nn

    if network == "lenet":
        layers = [nn.Conv2d(1, 10, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 20, 5), nn.ReLU(), nn.MaxPool2d(2)]
        return (1, 28, 28), nn.Sequential(*layers, nn.Flatten(), nn.Linear(320, 50), nn.ReLU()), 50
    layers = []
    for width in (256, 1024, 1024, 1024):
        layers += [nn.Linear(width, 1024), nn.ReLU()]
    return (256,), nn.Sequential(*layers), 1024


class Worker:
    """A process of its own that answers with TorchJD's times.

    TensorFlow and torch bring two versions of one library that cannot live in one process.

    Args:
        script: Path of the script that it runs.
        *arguments: What it takes.
    """

    def __init__(self, script, *arguments):
        command = [sys.executable, script, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, question):
        """The answer to a line of text."""
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def _wait():
    """Lets a GPU finish what was started on it."""
    import torch

    if device() == "cuda":
        torch.cuda.synchronize()


def _serve(network, num_tasks, batch_size, clock):
    clock = time.process_time if clock == "cpu" else time.perf_counter
    functions = make_steps(network, int(num_tasks), int(batch_size))
    for line in sys.stdin:
        steps, name = line.strip().split(" ", 1)
        start = clock()
        for _ in range(int(steps)):
            functions[name]()
        _wait()
        print(1000 * (clock() - start) / int(steps), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
