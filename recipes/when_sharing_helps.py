"""When sharing helps: a task with 100 labels, beside a related and beside an unrelated one.

Two regressions on the same 20 inputs, each a small tanh network with random weights. Task A has 2,000 labels, task B
100. With correlation 1 both networks have the same hidden layer, with correlation 0 independent ones. Single-task
columns, hard sharing, soft sharing with two distances, and cross-stitch units, also with a faster learning rate of
their own, get the same data, steps and optimizer, with several seeds, each of which draws tasks, data and initial
weights.

What it shows: sharing helps the small task where the tasks are related and hurts it where they are not, and how far
each way of sharing limits the damage. What it does not: nothing is tuned for a builder, so this is no ranking of
them.

    python recipes/when_sharing_helps.py [--quick] [--seeds 5] [--steps 1500]

The picture of the results goes to runs/when_sharing_helps/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, progress

import keras
import numpy as np
import tensorflow as tf
from rich.table import Table

import keras_mtl

INPUTS, HIDDEN, NOISE = 20, 8, 0.1
LABELLED, TESTED = {"a": 2000, "b": 100}, 2000
SINGLE = "single-task"


def make_data(correlation, seed):
    """Inputs and labels of both tasks; task B's are NaN for all but the first 100 examples."""
    rng = np.random.default_rng(seed)
    first, other = rng.normal(size=(2, INPUTS, HIDDEN)) / np.sqrt(INPUTS)
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    readout = rng.normal(size=(2, HIDDEN, 1))
    x = rng.normal(size=(LABELLED["a"] + TESTED, INPUTS))
    y = {task: np.tanh(2 * x @ w) @ v for task, w, v in zip("ab", (first, second), readout, strict=True)}
    y = {task: (values - values.mean()) / values.std() for task, values in y.items()}
    train, test = slice(0, LABELLED["a"]), slice(LABELLED["a"], None)
    noisy = {task: values[train] + NOISE * rng.normal(size=(LABELLED["a"], 1)) for task, values in y.items()}
    noisy["b"][LABELLED["b"] :] = np.nan
    return (x[train], noisy), (x[test], {task: values[test] for task, values in y.items()})


def build(name):
    """A trunk of two layers of 16 and a linear head for each task."""
    builder, options = {
        SINGLE: (keras_mtl.hard_sharing, {"shared_depth": 0}),
        "hard": (keras_mtl.hard_sharing, {}),
        "soft, l2": (keras_mtl.soft_sharing, {"distance": "l2", "strength": 0.01}),
        "soft, trace norm": (keras_mtl.soft_sharing, {"distance": "trace_norm", "strength": 0.01}),
        "cross-stitch": (keras_mtl.cross_stitch, {}),
        "cross-stitch, fast": (keras_mtl.cross_stitch, {}),
    }[name]
    stages = [keras.layers.Dense(16, activation="tanh", name=stage) for stage in ("low", "high")]
    return builder(keras.Input((INPUTS,)), stages, {task: keras.layers.Dense(1) for task in "ab"}, **options)


MODELS = (SINGLE, "hard", "soft, l2", "soft, trace norm", "cross-stitch", "cross-stitch, fast")


def train(name, data, seed, steps, callbacks=()):
    """Trains one model on the whole of the training data at every step."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(name)
    optimizer = keras.optimizers.Adam(3e-3)
    if name.endswith("fast"):
        units = {".*/units/.*": keras.optimizers.Adam(0.3)}
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer, units))
    model.compile(optimizer, loss="mse", missing={"b": "nan"}, steps_per_execution=min(steps, 50))
    x, y = data
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(steps), callbacks=list(callbacks), verbose=0)
    return model


def run(correlations, seeds, steps):
    """Test errors of task B: correlation -> model -> list over seeds."""
    errors = {correlation: {name: [] for name in MODELS} for correlation in correlations}
    with progress() as bar:
        row = bar.add_task("", total=len(correlations) * len(seeds) * len(MODELS))
        for correlation in correlations:
            for seed in seeds:
                data, (x, y) = make_data(correlation, seed)
                for name in MODELS:
                    shown = ProgressOfFit(bar, row, f"correlation {correlation:g}, seed {seed}, {name}")
                    model = train(name, data, seed, steps, [shown])
                    predicted = model.predict(x, verbose=0, batch_size=TESTED)["b"]
                    errors[correlation][name].append(float(np.mean((predicted - y["b"]) ** 2)))
    return errors


def report(errors, seeds):
    """Prints test errors of task B and their ratio to single-task, seed by seed."""
    table = Table(title=f"Task B (100 labels): test MSE over its variance, {len(seeds)} seeds", title_justify="left")
    table.add_column("model")
    for correlation in errors:
        table.add_column(f"correlation {correlation:g}", justify="right")
        table.add_column("of single-task", justify="right")
    for name in MODELS:
        cells = []
        for by_model in errors.values():
            ratios = np.array(by_model[name]) / np.array(by_model[SINGLE])
            cells += [mean_and_spread(by_model[name], digits=3), mean_and_spread(ratios, digits=2)]
        table.add_row(name, *cells, end_section=name == SINGLE)
    console.print(table)


def draw(errors, path):
    """Bars of the mean ratio to single-task, with a dot for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(errors), sharey=True, squeeze=False)[0]
    for axes, (correlation, by_model) in zip(panels, errors.items(), strict=True):
        for i, name in enumerate(MODELS[1:]):
            ratios = np.array(by_model[name]) / np.array(by_model[SINGLE])
            axes.bar(i, ratios.mean(), color="tab:green" if ratios.mean() < 1 else "tab:red", alpha=0.5)
            axes.scatter(np.full(len(ratios), i), ratios, s=12, color="black", zorder=3)
        axes.axhline(1, color="black", linewidth=1, linestyle="--")
        axes.set_xticks(range(len(MODELS) - 1), MODELS[1:], rotation=15)
        axes.set_title(f"correlation of the tasks: {correlation:g}")
    panels[0].set_ylabel("test error of task B / single-task")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    seeds = range(1 if arguments.quick else arguments.seeds)
    errors = run((1.0, 0.0), seeds, 100 if arguments.quick else arguments.steps)
    report(errors, seeds)
    path = output_folder("when_sharing_helps") / "results.png"
    draw(errors, path)
    console.print(f"Picture: {path}")


if __name__ == "__main__":
    main()
