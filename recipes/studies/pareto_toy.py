"""The 2-D Pareto toy of CAGrad, Nash-MTL and FAMO: which weightings reach the Pareto front, and where?

About forty minutes on two cores, a minute with --quick; downloads nothing.

Two losses of two shared numbers have a curved valley each, with a kink between the starts and the front, x_2 = -8.36
with x_1 between -7 and 7. The plain sum of the losses, and many a weighting, gets stuck in the kink or on the wrong
side. There are two problems: "cagrad", with three starts, and "nash", where the first loss is multiplied by 0.1 and
there are five. The loop is one of our own, on `tf.GradientTape` and `keras_mtl.weighting`, compiled with its thousands
of steps inside.

What it can show: whether a method behaves on this surface as its paper's picture says, and whether it balances losses
of different scales. What it cannot: anything about networks. There is no noise, no head, and the learning rate of Adam
is the papers', chosen for nobody. Methods that draw random numbers use one seed.

    python recipes/studies/pareto_toy.py [--quick] [--problem cagrad,nash] [--models mgda,nash,famo]
"""

import parent  # noqa: F401
from common import command_line, console, new_figure, print_table, trained

import keras
import numpy as np
import tensorflow as tf

from keras_mtl import weighting as weightings

# No loss is below -21: less this bound they are positive, as the methods on log losses need, and their gradients are
# the same. FAMO's authors subtract the same number.
LOWEST = -21.0
FRONT = -8.3552  # x_2 of the front
CHUNK = 500  # steps of a compiled loop, which are an epoch to the methods that count epochs

# problem: (scale of the first loss, starts, steps)
PROBLEMS = {
    "cagrad": (1.0, [(-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0)], 100_000),
    "nash": (0.1, [(-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)], 50_000),
}

# Options as in the papers' toys, or where the default makes no sense here. Everything else runs with its defaults.
OPTIONS = {
    "cagrad": {"c": 0.5},
    "famo": {"weight_decay": 0.0},
    "graddrop": {"seed": 0},
    "gradvac": {"seed": 0},
    "m_config": {"rescale": False},  # the optimizer is Adam
    "pcgrad": {"seed": 0},
    "random": {"seed": 0},
    "relobralo": {"seed": 0},
    "stch": {"form": "plain"},
}
NOT_HERE = ("dtp", "great")  # one reads a metric, the other needs features of examples
CASES = {name: (name, OPTIONS.get(name, {})) for name in weightings.names() if name not in NOT_HERE}
CASES["cagrad_0.4"] = ("cagrad", {"c": 0.4})
CASES["famo_next"] = ("famo", {"weight_decay": 0.0, "form": "next_batch"})
CASES["mgda_norm"] = ("mgda", {"normalize": "norm"})


def toy_losses(x, scale):
    """Both losses at points of shape `(2, ...)`.

    The kinks matter: `tf.maximum` passes the whole gradient to its first argument at a tie, so that a point with
    x_2 = 0 exactly can move. `tf.nn.relu` in its place would pass nothing, and the start (0, 0) stay there for ever.
    """
    x1, x2 = x[0], x[1]
    upper = tf.maximum(tf.tanh(0.5 * x2), 0.0)
    lower = tf.maximum(tf.tanh(-0.5 * x2), 0.0)
    log1 = tf.math.log(tf.maximum(tf.abs(0.5 * (-x1 - 7.0) - tf.tanh(-x2)), 5e-6)) + 6.0
    log2 = tf.math.log(tf.maximum(tf.abs(0.5 * (-x1 + 3.0) + tf.tanh(-x2) + 2.0), 5e-6)) + 6.0
    bowl1 = ((-x1 + 7.0) ** 2 + 0.1 * (-x2 - 8.0) ** 2) / 10.0 - 20.0
    bowl2 = ((-x1 - 7.0) ** 2 + 0.1 * (-x2 - 8.0) ** 2) / 10.0 - 20.0
    return [scale * (log1 * upper + bowl1 * lower), log2 * upper + bowl2 * lower]


class Descent:
    """One weighting's way down: the steps are compiled once and used for every start."""

    def __init__(self, name, options, scale):
        keras.utils.set_random_seed(0)
        self.weighting = type(weightings.get(name))(**options)
        self.weighting.set_tasks(["one", "two"], ["regression", "regression"])
        self.weighting.build((2, 2) if isinstance(self.weighting, weightings.JacobianWeighting) else (2,))
        self.lowest = np.array([LOWEST * scale, LOWEST], "float32")
        self.scale = scale
        self.x = keras.Variable(np.zeros(2), dtype="float32", name="x")
        self.variables = [self.x, *self.weighting.trainable_variables]
        # Epsilon as in PyTorch, where these pictures were first drawn.
        self.optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-8)
        self.optimizer.build(self.variables)

    def positive_losses(self):
        return [loss - lowest for loss, lowest in zip(toy_losses(self.x.value, self.scale), self.lowest, strict=True)]

    def step(self):
        weighting, present = self.weighting, tf.ones(2)
        with tf.GradientTape(persistent=True) as tape:
            each = self.positive_losses()
            losses = tf.stack(each)
            if not weighting.sees_gradients:
                weights = weighting.task_weights(losses, present)
                objective = weighting.objective(losses, weights, present)
        if not weighting.sees_gradients:
            gramian = None
            gradients = tape.gradient(objective, [v.value for v in self.variables])
        else:
            found = weightings.task_gradients(tape, each, [self.x])
            gramian = found.gramian()
            if isinstance(weighting, weightings.GramianWeighting):
                weights = weighting.task_weights(losses, present, gramian)
                gradients = found.combine(weights)
            else:
                # There is no noise, so independent parts of a batch would all be the same.
                parts = weighting.sub_batches
                jacobian, seen = found.jacobian(), losses
                if parts > 1:
                    jacobian, seen = tf.stack([jacobian] * parts), tf.stack([losses] * parts)
                direction, weights = weighting.direction(jacobian, seen, present)
                gradients = found.split(direction)
        self.optimizer.apply(gradients, self.variables)
        if not isinstance(weighting, weightings.JacobianWeighting):
            weighting.update(losses, present, weights, gramian)
        if weighting.second_forward:
            weighting.after_step(losses, tf.stack(self.positive_losses()), present)

    @tf.function(jit_compile=True)
    def steps(self, number):
        """Many steps in one compiled loop; gives the point they lead to."""
        for _ in tf.range(number):
            self.step()
        return tf.identity(self.x.value)

    def __call__(self, start, steps):
        """The start and the point after every `CHUNK` steps: an array of shape `(points, 2)`."""
        self.weighting.reset_state()
        for variable in self.optimizer.variables[2:]:  # all but the step count and the learning rate
            variable.assign(tf.zeros_like(variable))
        self.optimizer.iterations.assign(0)
        self.x.assign(start)
        points = [np.array(start, "float32")]
        for _ in range(steps // CHUNK):
            points.append(self.steps(tf.constant(CHUNK)).numpy())
            self.weighting.end_epoch({})
        return np.array(points)


def on_front(points, tolerance=0.2):
    """Whether each last point of several trajectories lies on the front."""
    ends = np.array([trajectory[-1] for trajectory in points])
    return (np.abs(ends[:, 1] - FRONT) < tolerance) & (np.abs(ends[:, 0]) <= 7.2)


def descend(problem, case, steps=None):
    """A trajectory from each start, of as many steps as in the papers by default."""
    scale, starts, full = PROBLEMS[problem]
    descent = Descent(*CASES[case], scale)
    return [descent(start, steps or full) for start in starts]


def mean_loss(point, scale):
    return float(np.mean([loss.numpy() for loss in toy_losses(tf.constant(point), scale)]))


def report(problem, found):
    """Prints where every start ended."""
    scale, starts, _ = PROBLEMS[problem]
    rows = []
    for case, points in found.items():
        reached = on_front(points)
        cells = [
            f"({p[-1][0]:.2f}, {p[-1][1]:.2f}) {mean_loss(p[-1], scale):.2f}{'*' if hit else ' '}"
            for p, hit in zip(points, reached, strict=True)
        ]
        rows.append([case, f"{reached.sum()} of {len(starts)}", *cells])
    header = ["weighting", "reached", *(f"from {start}" for start in starts)]
    print_table(f"{problem}: end point and mean loss from each start; * on the front", header, rows)


def draw(problem, trajectories, path):
    """Draws all trajectories over the contours of the mean loss."""
    scale, starts, _ = PROBLEMS[problem]
    axis1 = np.linspace(-11, 11, 201, dtype="float32")
    grid = np.stack(np.meshgrid(axis1, axis1))
    height = np.mean([loss.numpy() for loss in toy_losses(tf.constant(grid), scale)], axis=0)
    columns = min(6, int(np.ceil(np.sqrt(len(trajectories)))))
    rows = -(-len(trajectories) // columns)
    figure = new_figure(2.3 * columns, 2.45 * rows)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(trajectories) :]:
        axis.set_axis_off()
    for axis, (case, points) in zip(axes.flat, trajectories.items(), strict=False):
        axis.contour(axis1, axis1, height, levels=18, colors="0.8", linewidths=0.5)
        axis.plot([-7, 7], [FRONT, FRONT], color="0.45", linewidth=4, solid_capstyle="butt")
        reached = on_front(points)
        for trajectory, hit in zip(points, reached, strict=True):
            color = "#0072b2" if hit else "#d55e00"
            axis.plot(*trajectory.T, color=color, linewidth=1.2)
            axis.plot(*trajectory[0], "o", color="black", markersize=3)
            axis.plot(*trajectory[-1], "*", color=color, markersize=8)
        axis.set_title(f"{case}: {reached.sum()} of {len(starts)}", fontsize=9)
        axis.set(xlim=(-11, 11), ylim=(-11, 11))
    figure.suptitle(
        f'"{problem}": from starts (dots) to ends (stars).\nBlue ends lie on the front (grey bar), orange do not',
        fontsize=10,
    )
    figure.supxlabel("x_1", fontsize=9)
    figure.supylabel("x_2", fontsize=9)
    figure.savefig(path, dpi=110)


def main():
    options = command_line(
        __file__,
        __doc__,
        models=CASES,
        quick_models=["equal", "mgda", "cagrad", "famo"],
        seeds=1,
        problem=(",".join(PROBLEMS), "one of them or both"),
        steps=(0, "from every start; 0: as many as the papers, or 5,000 under --quick"),
    )
    steps, problems = options.steps or (5_000 if options.quick else None), options.problem.split(",")

    def run(name, seed, callbacks):
        points = descend(*name, steps)
        return {"starts that end on the front": on_front(points).sum(), "points": points}

    names = [(problem, case) for problem in problems for case in options.models]
    results = trained(run, options, names, logs=False)
    for problem in problems:
        found = {case: results[problem, case]["points"][0] for case in options.models}
        np.savez(options.folder / f"{problem}.npz", **found)
        report(problem, found)
        draw(problem, found, options.folder / f"{problem}.png")
    console.print(f"Pictures and trajectories: {options.folder}")


if __name__ == "__main__":
    main()
