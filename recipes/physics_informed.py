"""A differential equation as losses of one network: which weighting finds the solution where equal weights do not?

About a quarter of an hour on two cores, a minute or two with --quick; downloads nothing.

The equation is u'' = f on [0, 1] with u(0) = 0 and a given slope u'(1), for the solution u(x) = sin(w x), w = 3.5 pi.
The network gives u and, by the chain rule, u' and u''; its three losses are the mean squared residuals of the equation
at 64 points, of the value and of the slope. The equation's is thousands of times as large as the value's: f is of size
w^2. So a network can solve the equation and miss the solution, by a straight line. All is in float64, with Adam or, for
M-ConFIG, which makes Adam's steps itself, SGD. The error is that of u on a fine grid, relative to u's length.

What it can show: how a weighting deals with losses of very different size, and what that costs. What it cannot: which
one is best for another equation; and with the default number of steps no method has solved this one yet.

    python recipes/physics_informed.py [--quick] [--models equal,ConFIG] [--seeds 5] [--steps 2500]
"""

import time
import warnings
from functools import lru_cache

from common import command_line, console, start_again, study

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

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
    """A dense layer of all three, with t = tanh(z): t' = (1 - t^2) z', t'' = (1 - t^2) (z'' - 2 t z'^2)."""

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


@keras.saving.register_keras_serializable(package="recipes")
class Derivative(layers.Layer):
    """The value (0), the first or the second derivative."""

    def __init__(self, order, **kwargs):
        super().__init__(**kwargs)
        self.order = order

    def call(self, inputs):
        return inputs[:, self.order]


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


def train(model, steps):
    """Trains once: seconds, errors in percent and residuals, and how far u is off on a grid."""
    data = tf.data.Dataset.from_tensors(make_data())
    start = time.perf_counter()
    with warnings.catch_warnings():  # of small weights, which are what small gradients need
        warnings.filterwarnings("ignore", "The mean weight of")
        model.fit(data.repeat(steps), verbose=0, shuffle=False)
    seconds = time.perf_counter() - start
    grid = np.linspace(0.0, 1.0, 501)[:, None]
    wanted, found = exact(grid)["value"], model.predict(grid, verbose=0)["value"]
    logs = model.evaluate(data, verbose=0, return_dict=True)
    error = 100 * np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    residuals = {task: logs[f"{task}_loss"] for task in TASKS}
    return {"error": error, **residuals, "off": (found - wanted)[1:, 0], "seconds": seconds}


def main():
    options = command_line(__file__, __doc__, models=METHODS, steps=(2500, "of each training; 200 under --quick"))
    steps = 200 if options.quick else options.steps
    keras.config.set_floatx("float64")

    @lru_cache(None)
    def warm(name, seed):
        """A model that is compiled once for all seeds, and whose first steps are for that."""
        model = build(name, seed, steps)
        train(model, min(steps, 100))
        return model

    def run(name, seed, callbacks):
        model = warm(name, options.seeds[0])
        start_again(model, build(name, seed, steps).get_weights())
        model.weighting.reset_state()
        return train(model, steps)

    scores = {"error": "error of u, %", **{task: f"{task} residual" for task in TASKS}}
    how = {"title": "u'' = f", "reference": "equal", "lower": True, "gain": False, "logs": False}
    how |= {"digits": {"error": 2, **dict.fromkeys(TASKS, ".2g")}}
    axes = {"xlabel": "x", "every": 1 / 500}
    results = study(run, options, scores, along={"off": "u less the exact solution"}, axes=axes, **how)
    for name, found in results.items():
        console.print(f"{name}: {max(found['error']):.2f} % with the worst seed")


if __name__ == "__main__":
    main()
