"""Do groups chosen by affinity train better? Yeast's 14 labels, QM9's 12 targets, or 14 tasks on drawn faces.

One network of all tasks is trained and watched; the look-ahead affinities choose groups within a budget of networks.
Then, with several seeds and from scratch: a network for each chosen group, one for each group of a random grouping of
the same sizes (another one for each seed), one network of all tasks, and a network for each task. All have the same
stages, epochs and learning rate. The tables have test scores' mean relative gain over single-task networks (delta_m),
with its interval, and the differences between models that were trained with the same seeds. The affinities come from
the training data alone; the test data choose nothing.

What it can show: whether choosing by affinity beats chance at the same cost, here. What it cannot: that it does
elsewhere, with larger networks, or with other splits, since each data set has one. Nothing was tuned.

    python recipes/task_grouping.py [--data yeast|qm9|faces] [--quick] [--scores look_ahead] [--budget 3] [--seeds 5]

Pictures and the report go to runs/task_grouping/; a call that was stopped goes on from there.
"""

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import console, output_folder
from data import faces, qm9, yeast
from rich.progress import track
from rich.table import Table

import keras_mtl
from keras_mtl import analysis
from keras_mtl.analysis._statistics import confidence_interval, mean_and_spread

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

SCORES = ("look_ahead", "cosine", "representation", "labels")
# What chosen groups are compared with, seed by seed.
OTHERS = ("random groups", "all together")


class Problem(NamedTuple):
    """Data and a network for them.

    - `build`: function from a list of tasks to a compiled model.
    - `train`, `test`: tuples of inputs and a dict of labels.
    - `metrics`: dict from task to the test score that counts.
    - `fit`: dict of `epochs`, `batch_size`, and `every`, steps between two measurements.
    """

    build: Callable
    train: tuple
    test: tuple
    metrics: dict
    fit: dict


def yeast_labels(quick=False):
    """Groups of functions of genes, yes or no: cross entropy."""

    def build(tasks):
        layers = keras.layers
        stage = [layers.Dense(64, activation="relu", name="hidden"), layers.Dropout(0.3)]
        heads = {task: layers.Dense(1, activation="sigmoid") for task in tasks}
        model = keras_mtl.hard_sharing(keras.Input((yeast.INPUTS,)), [stage], heads)
        model.compile(keras.optimizers.Adam(2e-3), loss="binary_crossentropy", steps_per_execution=6)
        return model

    tasks = [f"label_{i}" for i in range(4 if quick else yeast.LABELS)]
    rows = 200 if quick else None
    splits = yeast.yeast()
    train, test = (
        (inputs[:rows], {task: labels[:rows, int(task.split("_")[1]), None] for task in tasks})
        for inputs, labels in (splits["train"], splits["test"])
    )
    return Problem(build, train, test, dict.fromkeys(tasks, "loss"), {"epochs": 20, "batch_size": 64, "every": 6})


def qm9_targets(quick=False):
    """Properties of molecules, standardized by the training molecules: mean absolute error."""
    tasks = list(qm9.TASKS)[: 4 if quick else None]
    rows = {"train": 200, "test": 100} if quick else {"train": 3000, "test": 5000}
    splits = qm9.qm9(rows, width=200)
    scales = {task: (y.mean(), y.std()) for task, y in splits["train"][1].items()}
    train, test = (
        (inputs, {task: ((labels[task] - scales[task][0]) / scales[task][1]).astype("float32") for task in tasks})
        for inputs, labels in (splits["train"], splits["test"])
    )

    def build(tasks):
        layers = keras.layers
        stages = [layers.Dense(64, activation="relu", name=f"hidden_{i}") for i in range(2)]
        heads = {task: layers.Dense(1) for task in tasks}
        model = keras_mtl.hard_sharing(keras.Input(train[0].shape[1:]), stages, heads)
        model.compile(keras.optimizers.Adam(2e-3), loss="mae", steps_per_execution=6)
        return model

    return Problem(build, train, test, dict.fromkeys(tasks, "loss"), {"epochs": 20, "batch_size": 64, "every": 6})


def face_tasks(quick=False):
    """Attributes of faces, 32 x 32 pixels: accuracy; and where five points are: mean absolute error."""
    tasks = ("landmarks", *faces.ATTRIBUTES)[: 4 if quick else None]
    rows = {"train": 100, "test": 50} if quick else {"train": 2000, "test": 1500}

    def show(steps, total):
        return track(steps, "rendering faces, once", total, console=console)

    splits = faces.faces(("landmarks", *faces.ATTRIBUTES), rows, track=show)
    side = faces.SIDE // 2
    train, test = (
        (pictures.reshape(-1, side, 2, side, 2, 3).mean(axis=(2, 4)), {task: labels[task] for task in tasks})
        for pictures, labels in (splits["train"], splits["test"])
    )
    classes = {task: int(labels.max()) + 1 for task, labels in splits["train"][1].items() if task != "landmarks"}

    def build(tasks):
        layers = keras.layers
        model = keras_mtl.hard_sharing(
            inputs=keras.Input((side, side, 3)),
            stages=[
                [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
                [layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
                [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
                [layers.Flatten(), layers.Dense(64, activation="relu")],
            ],
            heads={task: layers.Dense(classes.get(task, 10)) for task in tasks},
        )
        attributes = [task for task in tasks if task in classes]
        model.compile(
            keras.optimizers.Adam(2e-3),
            loss={t: keras.losses.SparseCategoricalCrossentropy(True) if t in classes else "mae" for t in tasks},
            metrics={task: ["accuracy"] for task in attributes},
            missing=dict.fromkeys(attributes, -1),
            steps_per_execution=4,
        )
        return model

    metrics = {task: "accuracy" if task in classes else "loss" for task in tasks}
    return Problem(build, train, test, metrics, {"epochs": 8, "batch_size": 64, "every": 4})


PROBLEMS = {"yeast": yeast_labels, "qm9": qm9_targets, "faces": face_tasks}


def report(found, title):
    """Prints delta_m of each candidate with its interval, and how chosen groups do beside the others."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("delta_m, %", "95 % interval", "parameters", "tasks that lost"):
        table.add_column(column, justify="right")
    for name in found.runs:
        mean, spread = mean_and_spread(found.delta_m(name))
        interval = found.interval(name)
        span = "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"
        parameters = f"{found.runs[name][0]['parameters']:,}"
        lost = f"{len(found.negative_transfer(name))} of {len(found.metrics)}"
        table.add_row(name, f"{mean:+.2f} ± {spread:.2f}", span, parameters, lost)
    console.print(table)
    if len(found.seeds) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    chosen = np.array(found.delta_m("chosen groups"))
    for other in OTHERS:
        differences = chosen - found.delta_m(other)
        low, high = confidence_interval(differences)
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
        console.print(
            f"Chosen groups less {other}, seed by seed: {differences.mean():+.2f} ({low:+.2f} to {high:+.2f}); chosen "
            f"groups are {verdict} {other}."
        )


def draw(found, path):
    """Each task's gain over single-task, with every model and seed; grey: one standard deviation of single-task."""
    from matplotlib.figure import Figure

    tasks, names = list(found.metrics), list(found.runs)
    figure = Figure(figsize=(2.5 + 0.75 * len(tasks), 4.2), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(tasks))
    spreads = np.array([mean_and_spread(found.baseline_gains[task])[1] for task in tasks])
    axis.bar(places, 2 * spreads, 0.9, bottom=-spreads, color="0.88")
    for i, name in enumerate(names):
        gains = np.array([found.gains(name, task) for task in tasks])
        shifted = places + 0.25 * (i - (len(names) - 1) / 2)
        axis.plot(np.repeat(shifted, gains.shape[1]), gains.ravel(), "o", color=f"C{i}", alpha=0.4, markersize=4)
        axis.plot(shifted, gains.mean(axis=1), "_", color=f"C{i}", markersize=11, markeredgewidth=2.5, label=name)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(places, tasks, rotation=45, ha="right")
    axis.set_ylabel("gain over single-task, %")
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=PROBLEMS, default="yeast")
    parser.add_argument("--quick", action="store_true", help="four tasks, few examples, one seed: that it runs")
    parser.add_argument("--scores", choices=SCORES, default="look_ahead")
    parser.add_argument("--budget", type=int, default=3, help="number of networks (default: 3)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 20, for faces 8)")
    options = parser.parse_args()
    problem = PROBLEMS[options.data](options.quick)
    folder = output_folder(f"task_grouping{'-quick' if options.quick else ''}/{options.data}")
    tasks = list(problem.metrics)
    fit = problem.fit | {"epochs": options.epochs or (1 if options.quick else problem.fit["epochs"])}
    study = analysis.group_and_compare(
        problem.build,
        problem.train,
        test=problem.test,
        metrics=problem.metrics,
        budget=min(options.budget, len(tasks)),
        scores=options.scores,
        seeds=options.seeds or (1 if options.quick else 5),
        directory=folder / f"{options.scores}-{options.budget}-{fit['epochs']}",
        **fit,
    )
    console.print(str(study.grouping))
    title = f"{options.data}: test scores' gain over single-task, mean ± standard deviation over seeds"
    report(study.report, f"{title} ({len(study.report.seeds)})")
    study.scores.plot(folder / "affinity.png")
    study.scores.symmetric().plot_dendrogram(folder / "dendrogram.png", len(study.grouping.groups))
    budgets = range(1, len(tasks) // 2 + 1)
    analysis.plot_budgets([analysis.group_tasks(study.scores, b) for b in budgets], folder / "budgets.png")
    draw(study.report, folder / "gains.png")
    study.report.to_json(folder / "report.json")
    console.print(f"Pictures: {folder}")


if __name__ == "__main__":
    main()
