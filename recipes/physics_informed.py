"""A differential equation as losses of one network: which weighting finds the solution where equal weights do not?

The equation is u'' = f on [0, 1] with u(0) = 0 and a given slope u'(1), for the solution u(x) = sin(w x) with
w = 3.5 pi. The network gives u and, by the chain rule, u' and u''; its three losses are the mean squared residuals of
the equation at 64 points, of the value and of the slope. The equation's is thousands of times as large as
the value's: f is of size w^2. So a network can solve the equation and miss the solution, by a straight line.

Every method has the same network, points, number of steps and learning rates, Adam or, for M-ConFIG, which makes
Adam's steps itself, plain SGD. The error is that of u on a fine grid, relative to the exact solution's length.
Everything is computed in float64.

What it can show: how a weighting deals with losses of very different size, and what a step of it costs. What it cannot:
which one is best for another equation. The value and the slope are one point each; their gradients vanish as soon as
they are met, which is hard on methods that look at directions alone. With the default number of steps no method has
solved the equation yet.

    python recipes/physics_informed.py [--quick] [--methods equal,config,...] [--seeds 5] [--steps 2500]

A picture goes to runs/physics_informed/results.png.
"""

import argparse
import os
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, mean_and_spread, output_folder

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from rich.progress import track
from rich.table import Table

import keras_mtl
from keras_mtl import weighting as weightings

FREQUENCY = 3.5 * np.pi
POINTS = 64
WIDTH = 32
LEARNING_RATE = 2e-3
TASKS = ("equation", "value", "slope")
BY_HAND = {"equation": 1.0, "value": FREQUENCY**4, "slope": FREQUENCY**2}
METHODS = {
    "equal": weightings.Equal,
    "by hand": weightings.Equal,
    "ReLoBRaLo": lambda: weightings.ReLoBRaLo(temperature=0.1, seed=0),
    "GradNorm": lambda: weightings.GradNorm(relative=True),
    "ConFIG": weightings.ConFIG,
    "M-ConFIG": weightings.MConFIG,
}


@keras.saving.register_keras_serializable(package="recipes")
class WithSlopes(layers.Layer):
    """A number x as itself with its derivatives: of shape `(batch, 3, 1)`."""

    def call(self, inputs):
        x = inputs[:, None, :]
        return ops.concatenate([x, ops.ones_like(x), ops.zeros_like(x)], axis=1)


@keras.saving.register_keras_serializable(package="recipes")
class SlopedDense(layers.Layer):
    """A dense layer of values, first and second derivatives, of shape `(batch, 3, units)`.

    With z the linear part and t = tanh(z): t' = (1 - t^2) z', t'' = (1 - t^2) (z'' - 2 t z'^2).
    """

    def __init__(self, units, tanh=True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.tanh = units, tanh

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_normal", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs):
        z, first, second = ops.unstack(ops.matmul(inputs, self.kernel), axis=1)
        z = z + self.bias
        if self.tanh:
            z = ops.tanh(z)
            slope = 1.0 - z * z
            second = slope * (second - 2.0 * z * first * first)
            first = slope * first
        return ops.stack([z, first, second], axis=1)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "tanh": self.tanh}


@keras.saving.register_keras_serializable(package="recipes")
class Derivative(layers.Layer):
    """The value (0), the first or the second derivative."""

    def __init__(self, order, **kwargs):
        super().__init__(**kwargs)
        self.order = order

    def call(self, inputs):
        return inputs[:, self.order]

    def get_config(self):
        return {**super().get_config(), "order": self.order}


def exact(x):
    """The solution, and what is asked of it."""
    w = FREQUENCY
    return {"value": np.sin(w * x), "slope": w * np.cos(w * x), "equation": -(w**2) * np.sin(w * x)}


def make_data():
    """All points in one batch; each has a label of its own condition alone."""
    x = np.concatenate([np.linspace(0.0, 1.0, POINTS + 2)[1:-1], [0.0], [1.0]])[:, None]
    y = {task: np.full_like(x, np.nan) for task in TASKS}
    y["equation"][:POINTS] = exact(x[:POINTS])["equation"]
    y["value"][POINTS] = exact(x[POINTS])["value"]
    y["slope"][POINTS + 1] = exact(x[POINTS + 1])["slope"]
    return x, y


def build(name, seed, steps):
    """A network with a method's weighting, compiled."""
    keras.utils.set_random_seed(seed)
    stages = [WithSlopes(), SlopedDense(WIDTH), SlopedDense(WIDTH), SlopedDense(WIDTH), SlopedDense(1, tanh=False)]
    heads = {"equation": Derivative(2), "value": Derivative(0), "slope": Derivative(1)}
    model = keras_mtl.hard_sharing(keras.Input((1,)), stages, heads)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    optimizer = keras.optimizers.SGD(schedule) if name == "M-ConFIG" else keras.optimizers.Adam(schedule)
    model.compile(
        optimizer,
        loss="mse",
        weighting=METHODS[name](),
        loss_weights=BY_HAND if name == "by hand" else None,
        missing="nan",
        jit_compile=True,
        steps_per_execution=min(steps, 100),
    )
    return model


def start_again(model, name, seed, steps):
    """Gives a compiled model another seed's weights and the state of one that was never trained."""
    model.set_weights(build(name, seed, steps).get_weights())
    for variable in model.optimizer.variables:
        variable.assign(ops.zeros_like(variable))
    model.weighting.reset_state()


def train(model, steps):
    """Trains once.

    Returns:
        Tuple of the relative error of u, the mean squared residual of each task, the milliseconds of a step and the
        solution on a grid.
    """
    data = tf.data.Dataset.from_tensors(make_data())
    start = time.perf_counter()
    with warnings.catch_warnings():  # of small weights, which are what small gradients need
        warnings.filterwarnings("ignore", "The mean weight of")
        model.fit(data.repeat(steps), verbose=0, shuffle=False)
    milliseconds = 1e3 * (time.perf_counter() - start) / steps
    grid = np.linspace(0.0, 1.0, 501)[:, None]
    wanted, found = exact(grid)["value"], model.predict(grid, verbose=0)["value"]
    residuals = model.evaluate(data, verbose=0, return_dict=True)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    return error, [residuals[f"{task}_loss"] for task in TASKS], milliseconds, found


def report(results):
    """Prints errors and residuals, means over the seeds."""
    table = Table(title="u'' = f: relative error of u in %, residuals and time of a step")
    for column in ("method", "error of u (%)", "worst seed", *(f"{task} residual" for task in TASKS), "ms a step"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, runs in results.items():
        errors = [100 * run[0] for run in runs]
        residuals = np.mean([run[1] for run in runs], axis=0)
        milliseconds = np.median([run[2] for run in runs])
        cells = [f"{value:.2g}" for value in residuals]
        table.add_row(name, mean_and_spread(errors, 2), f"{max(errors):.2f}", *cells, f"{milliseconds:.2f}")
    console.print(table)


def draw(results, path):
    """Draws each method's solution of the first seed, and the exact one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    grid = np.linspace(0.0, 1.0, 501)
    axis.plot(grid, exact(grid)["value"], color="black", linewidth=4, alpha=0.25, label="exact")
    for name, runs in results.items():
        axis.plot(grid, runs[0][3], label=name)
    axis.set_xlabel("x")
    axis.set_ylabel("u")
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps: that it runs")
    parser.add_argument("--methods", default=",".join(METHODS), help="some of: %(default)s (default: all)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--steps", type=int, help="steps of each training (default: 2500)")
    args = parser.parse_args()
    names = args.methods.split(",")
    if unknown := [name for name in names if name not in METHODS]:
        parser.error(f"--methods should be some of {list(METHODS)}. Received: {unknown}")
    seeds = args.seeds or (1 if args.quick else 5)
    steps = args.steps or (200 if args.quick else 2500)
    keras.config.set_floatx("float64")
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    results = {}
    models = {}
    for name, seed in track(jobs, "training", console=console):
        if name not in models:  # compiled once for all seeds, and the first steps are for that
            models[name] = build(name, seed, steps)
            train(models[name], min(steps, 100))
        start_again(models[name], name, seed, steps)
        results.setdefault(name, []).append(train(models[name], steps))
    report(results)
    path = output_folder("physics_informed-quick" if args.quick else "physics_informed") / "results.png"
    draw(results, path)
    console.print(f"Picture: {path}")


if __name__ == "__main__":
    main()
