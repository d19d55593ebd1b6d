"""Do groups chosen by affinity train better? Yeast's 14 labels, QM9's 12 targets, or 14 tasks on drawn faces.

About half an hour on two cores for each data set, a minute with --quick; yeast and molecules come with packages (see
requirements-data.txt), faces are drawn once.

One network of all tasks is trained and watched; its look-ahead affinities choose groups within a budget of networks.
Then, from scratch: a network for each chosen group, for each group of a random grouping of the same sizes (another one
for each seed), for all tasks, and for each task. The tables have the gain over single-task networks on the test data,
with its interval, and the differences between models that were trained with the same seeds.

What it can show: whether choosing by affinity beats chance at the same cost, here. What it cannot: that it does
elsewhere, with larger networks, or with other splits, since each data set has one. Nothing was tuned.

    python recipes/task_grouping.py [--data yeast|qm9|faces] [--quick] [--scores look_ahead] [--budget 3] [--seeds 5]

A call that was stopped goes on where it was.
"""

from collections.abc import Callable
from typing import NamedTuple

from common import SINGLE, command_line, console, convolutions, dots, may_state, mean_and_spread, print_table

import keras
import numpy as np
from data import faces, qm9, yeast
from scipy.stats import ttest_rel

import keras_mtl
from keras_mtl import analysis

SCORES = ("look_ahead", "cosine", "representation", "labels")


class Problem(NamedTuple):
    """Data and a network for them."""

    build: Callable  # from a list of tasks to a compiled model
    train: tuple
    test: tuple
    metrics: dict  # from task to the test score that counts
    fit: dict  # epochs, batch_size, and every, steps between two measurements


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
    splits = qm9.standardized(qm9.qm9(rows, width=200))
    train, test = ((x, {task: y[task] for task in tasks}) for x, y in (splits["train"], splits["test"]))

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
    splits = faces.drawn_faces(tasks, rows, side=32)
    classes = {task: int(labels.max()) + 1 for task, labels in splits["train"][1].items() if task != "landmarks"}

    def build(tasks):
        heads = {task: keras.layers.Dense(classes.get(task, 10)) for task in tasks}
        model = keras_mtl.hard_sharing(keras.Input((32, 32, 3)), convolutions(8, 16, 32, units=64), heads)
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
    return Problem(build, splits["train"], splits["test"], metrics, {"epochs": 8, "batch_size": 64, "every": 4})


PROBLEMS = {"yeast": yeast_labels, "qm9": qm9_targets, "faces": face_tasks}


def report(found, title, options):
    """Prints delta_m of each candidate with its interval, and how chosen groups do beside the others."""
    rows = []
    for name in found.runs:
        ends = found.interval(name)
        span = "" if ends is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}"
        lost = f"{len(found.negative_transfer(name))} of {len(found.metrics)}"
        gain = mean_and_spread(found.delta_m(name), 2, signed=True)
        rows.append([name, gain, span, f"{found.runs[name][0]['parameters']:,}", lost])
    print_table(title, ["model", "delta_m, %", "95 % interval", "parameters", "tasks that lost"], rows)
    for other in ("random groups", "all together") if may_state(options) else ():
        chosen, others = found.delta_m("chosen groups"), found.delta_m(other)
        low, high = ttest_rel(chosen, others).confidence_interval()  # no numbers where nothing varies
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not significantly different from"
        console.print(
            f"Chosen groups less {other}, seed by seed: {np.mean(chosen) - np.mean(others):+.2f} ({low:+.2f} to "
            f"{high:+.2f}); chosen groups are {verdict} {other}."
        )


def main():
    options = command_line(
        __file__,
        __doc__,
        data=(tuple(PROBLEMS), "which tasks"),
        scores=(SCORES, "what groups are chosen by"),
        budget=(3, "number of networks"),
        epochs=(None, 1),
    )
    problem = PROBLEMS[options.data](options.quick)
    folder = options.folder / options.data
    folder.mkdir(exist_ok=True)
    tasks = list(problem.metrics)
    fit = problem.fit | {"epochs": options.epochs or problem.fit["epochs"]}
    found = analysis.group_and_compare(
        problem.build,
        problem.train,
        test=problem.test,
        metrics=problem.metrics,
        budget=min(options.budget, len(tasks)),
        scores=options.scores,
        seeds=options.seeds,
        directory=folder / f"{options.scores}-{options.budget}-{fit['epochs']}",
        **fit,
    )
    console.print(str(found.grouping))
    count = len(options.seeds)
    report(found.report, f"{options.data}: test scores' gain over single-task, {count} seeds", options)
    found.scores.plot(folder / "affinity.png")
    found.scores.symmetric().plot_dendrogram(folder / "dendrogram.png", len(found.grouping.groups))
    budgets = range(1, len(tasks) // 2 + 1)
    analysis.plot_budgets([analysis.group_tasks(found.scores, b) for b in budgets], folder / "budgets.png")
    gains = {SINGLE: found.report.baseline_gains}
    gains |= {name: {task: found.report.gains(name, task) for task in tasks} for name in found.report.runs}
    dots({"gain over single-task, %": gains}, tasks, folder / "results.png", SINGLE)
    found.report.to_json(folder / "report.json")
    console.print(f"Pictures: {folder}")


if __name__ == "__main__":
    main()
