"""Active sampling: four easy tasks and two hard ones take turns in one trunk, 2,500 steps in all.

Six classifications of vectors of ten normal numbers. Four are linear, two are the sign of a product of two numbers
(exclusive or), which no linear function tells. Every task has examples and a head of its own; the trunk, two layers of
64, is shared. One step trains one task. Samplers draw which: uniformly, or by how tasks are doing (A5C, UA4C and EA4C
of Sharma et al., dynamic task prioritization, loss ratios). Targets are accuracies: 98 % of linear tasks, 95 % of the
others.

What it shows: how much sooner the hard tasks are learned when the easy ones, once they are known, get fewer steps, and
what that costs the easy ones. What it does not: the targets are known here; and with enough steps for all tasks there
is nothing to gain.

    python recipes/active_sampling.py [--quick] [--seeds 5] [--steps 2500]

The picture of the results and logs for TensorBoard go to runs/active_sampling/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, pairs_tell_apart, progress

import keras
import numpy as np
import tensorflow as tf
from rich.table import Table
from scipy.stats import hmean

import keras_mtl
from keras_mtl.data import A5C, EA4C, UA4C

EASY, HARD = ("linear1", "linear2", "linear3", "linear4"), ("xor1", "xor2")
TASKS = EASY + HARD
TARGETS = {task: 0.98 if task in EASY else 0.95 for task in TASKS}
INPUTS, TRAIN, TEST, BATCH, EPOCHS = 10, 4000, 2000, 64, 10

SAMPLERS = {
    "uniform": lambda seed: "uniform",
    "A5C": lambda seed: A5C(TARGETS),
    "UA4C": lambda seed: UA4C(TARGETS),
    "EA4C": lambda seed: EA4C(TARGETS, seed=seed),
    "DTP": lambda seed: "dynamic_task_prioritization",
    "loss ratio": lambda seed: "loss_ratio",
}


def make_data(seed):
    """Examples of every task: dict from task to (x, y), for training and for testing."""
    rng = np.random.default_rng(seed)
    splits = {}, {}
    for task in TASKS:
        x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
        if task in EASY:
            score = x @ rng.normal(size=INPUTS)
        else:
            first, second = (0, 1) if task == "xor1" else (2, 3)
            score = x[:, first] * x[:, second]
        y = (score > 0).astype("float32")[:, None]
        splits[0][task], splits[1][task] = (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])
    return splits


def build():
    """Two shared layers and a head for each task, each with an input of its own."""
    stages = [keras.layers.Dense(64, activation="relu", name=name) for name in ("low", "high")]
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in TASKS}
    model = keras_mtl.own_inputs(keras_mtl.hard_sharing(keras.Input((INPUTS,)), stages, heads))
    model.compile("adam", loss="binary_crossentropy", metrics={task: ["accuracy"] for task in TASKS})
    return model


def train(name, data, seed, steps, callbacks=()):
    """Trains with a sampler; returns the logs."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    train_data, test_data = (
        {task: tf.data.Dataset.from_tensor_slices(pair) for task, pair in split.items()} for split in data
    )
    mixture = keras_mtl.data.mix(
        {task: dataset.shuffle(TRAIN, seed=seed) for task, dataset in train_data.items()},
        SAMPLERS[name](seed),
        batch="interleave",
        batch_size=BATCH,
        stop=steps // EPOCHS,
        inputs="own",
        seed=seed,
    )
    tested = keras_mtl.data.mix(test_data, batch_size=TEST, stop="once", inputs="own")
    return build().fit(mixture, validation_data=tested, epochs=EPOCHS, callbacks=list(callbacks), verbose=0).history


def run(names, seeds, steps, folder):
    """Logs of all runs: name -> list over seeds."""
    found = {name: [] for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * EPOCHS)
        for seed in seeds:
            data = make_data(seed)
            for name in names:
                callbacks = [ProgressOfFit(bar, row, f"seed {seed}, {name}")]
                if seed == seeds[0]:
                    callbacks.append(keras.callbacks.TensorBoard(folder / "logs" / name.replace(" ", "_")))
                found[name].append(train(name, data, seed, steps, callbacks))
    return found


def accuracy(logs, tasks):
    """Mean test accuracy of some tasks at the end, in percent."""
    return 100 * np.mean([logs[f"val_{task}_accuracy"][-1] for task in tasks])


def quality(logs):
    """Harmonic mean of the accuracies over their targets, none above 1."""
    return hmean([min(logs[f"val_{task}_accuracy"][-1] / TARGETS[task], 1.0) for task in TASKS])


def steps_of(logs, tasks):
    """Mean number of steps of some tasks."""
    return np.mean([np.sum(logs[f"{task}_batches"]) for task in tasks])


def steps_until(logs, tasks, enough, steps):
    """Steps until the mean test accuracy of some tasks is enough; all steps where it never is."""
    curve = np.mean([logs[f"val_{task}_accuracy"] for task in tasks], axis=0)
    reached = np.flatnonzero(curve >= enough)
    return (reached[0] + 1) * steps // EPOCHS if len(reached) else steps


def report(found, steps):
    """Prints accuracies at the end, how soon the hard tasks were learned, and who got the steps."""
    table = Table(title=f"Test accuracy, %, {len(found['uniform'])} seeds", title_justify="left")
    columns = ("sampler", "linear", "exclusive or", "steps to 90 %", "harmonic quality", "steps: hard / easy")
    for column in columns:
        table.add_column(column, justify="left" if column == "sampler" else "right")
    scores = {
        name: (
            [accuracy(logs, EASY) for logs in runs],
            [accuracy(logs, HARD) for logs in runs],
            [steps_until(logs, HARD, 0.9, steps) for logs in runs],
        )
        for name, runs in found.items()
    }
    for name, runs in found.items():
        marks = [""] * 3
        if name != "uniform" and len(runs) > 1:
            pairs = zip(scores[name], scores["uniform"], strict=True)
            marks = [" *" if pairs_tell_apart(*pair, 3 * (len(found) - 1)) else "" for pair in pairs]
        told = [
            mean_and_spread(values, digits) + mark
            for values, digits, mark in zip(scores[name], (1, 1, 0), marks, strict=True)
        ]
        ratio = [steps_of(logs, HARD) / steps_of(logs, EASY) for logs in runs]
        quality_of_runs = mean_and_spread([quality(logs) for logs in runs], digits=3)
        table.add_row(name, *told, quality_of_runs, mean_and_spread(ratio, digits=2))
    console.print(table)
    console.print(
        f"*: apart from uniform by a paired t-test at 5 %, shared out over {3 * (len(found) - 1)} comparisons. "
        "Steps to 90 % are those until the mean test accuracy of exclusive or is that high."
    )


def draw(found, steps, path):
    """Accuracy of easy and of hard tasks as training goes on, and the probability of the hard ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    easy, hard, drawn = figure.subplots(1, 3)
    at = (1 + np.arange(EPOCHS)) * steps // EPOCHS
    panels = (
        (easy, EASY, "val_{}_accuracy", "linear tasks: test accuracy"),
        (hard, HARD, "val_{}_accuracy", "exclusive or: test accuracy"),
        (drawn, HARD, "{}_probability", "probability of a hard task"),
    )
    for axes, tasks, log, title in panels:
        for index, (name, runs) in enumerate(found.items()):
            curves = np.array([np.mean([logs[log.format(task)] for task in tasks], axis=0) for logs in runs])
            curves = curves * (len(tasks) if axes is drawn else 1)
            mean, spread = curves.mean(axis=0), curves.std(axis=0)
            axes.plot(at, mean, color=f"C{index}", label=name, linewidth=2 if name == "uniform" else 1.2)
            axes.fill_between(at, mean - spread, mean + spread, color=f"C{index}", alpha=0.12, linewidth=0)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("steps")
    easy.legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2500)
    arguments = parser.parse_args()
    steps = 100 if arguments.quick else arguments.steps
    seeds = range(1 if arguments.quick else arguments.seeds)
    folder = output_folder("active_sampling-quick" if arguments.quick else "active_sampling")
    found = run(list(SAMPLERS), seeds, steps, folder)
    report(found, steps)
    path = folder / "results.png"
    draw(found, steps, path)
    console.print(f"Picture: {path}; TensorBoard: {folder / 'logs'}")


if __name__ == "__main__":
    main()
