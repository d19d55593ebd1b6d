"""A curriculum of tasks: the parity of three bits before that of five, which is made of it.

The inputs are thirty random bits. One task is the product of the first three (as -1 and 1), another that of the first
five: the first times two more bits. Both share a trunk and take turns, one task a step. Compared are the hard task
alone, both from the start, the easy one first (released in order, then both), and the hard one first, as a control.
Counted are the steps until the hard task is right in 95 of 100 test examples: all of them, and those of the hard task
itself.

What it shows: whether the order saves steps where one task is part of the other. What it does not: that there is such
an order among tasks that are not made for it. The sizes were chosen so that the hard task takes thousands of steps.

    python recipes/parity_curriculum.py [--quick] [--seeds 5] [--steps 6000] [--first 800]

The picture of the results goes to runs/parity_curriculum/.
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
from keras_mtl.data import Curriculum, mix

BITS, TRAIN, TEST, BATCH, EPOCH = 30, 20000, 2048, 64, 100
EASY, HARD, ENOUGH = "three", "five", 0.95
ORDERS = ("hard alone", "both from the start", "easy first", "hard first")


def make_data(seed):
    """Examples of both tasks: dict from task to (x, y), for training and for testing."""
    rng = np.random.default_rng(seed)
    splits = {}, {}
    for task, size in ((EASY, 3), (HARD, 5)):
        for split, count in zip(splits, (TRAIN, TEST), strict=True):
            x = rng.choice([-1.0, 1.0], (count, BITS)).astype("float32")
            split[task] = x, (x[:, :size].prod(axis=1, keepdims=True) > 0).astype("float32")
    return splits


def build(tasks):
    """Two shared layers, and an input and a head for each task."""
    stages = [keras.layers.Dense(64, activation="relu", name=name) for name in ("low", "high")]
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in tasks}
    model = keras_mtl.own_inputs(keras_mtl.hard_sharing(keras.Input((BITS,)), stages, heads))
    model.compile("adam", loss="binary_crossentropy", metrics={task: ["accuracy"] for task in tasks})
    return model


def train(order, data, seed, steps, first, callbacks):
    """Trains until the steps are over; returns the logs."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tasks = (HARD,) if order == "hard alone" else (EASY, HARD)
    sampler = "uniform"
    if order in ("easy first", "hard first"):
        sampler = Curriculum([EASY, HARD], epochs=first // EPOCH, reverse=order == "hard first")
    train_data, test_data = ({t: tf.data.Dataset.from_tensor_slices(split[t]) for t in tasks} for split in data)
    mixture = mix(
        {task: dataset.shuffle(TRAIN, seed=seed) for task, dataset in train_data.items()},
        sampler,
        batch_size=BATCH,
        stop=EPOCH,
        inputs="own",
        seed=seed,
    )
    tested = mix(test_data, batch_size=TEST, stop="once", inputs="own")
    model, epochs = build(tasks), steps // EPOCH
    return model.fit(mixture, validation_data=tested, epochs=epochs, callbacks=callbacks, verbose=0).history


class StopWhenLearned(keras.callbacks.Callback):
    """Ends training once the hard task is right often enough."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = logs[f"val_{HARD}_accuracy"] >= ENOUGH


def steps_needed(logs, steps):
    """All steps, and steps of the hard task, until it was learned; the whole number where it was not."""
    learned = np.array(logs[f"val_{HARD}_accuracy"]) >= ENOUGH
    if not learned.any():
        return steps, int(np.sum(logs[f"{HARD}_batches"])), False
    epoch = int(np.argmax(learned)) + 1
    return epoch * EPOCH, int(np.sum(logs[f"{HARD}_batches"][:epoch])), True


def run(seeds, steps, first):
    """Logs by order, a list over seeds."""
    found = {order: [] for order in ORDERS}
    with progress() as bar:
        row = bar.add_task("", total=len(ORDERS) * len(seeds) * (steps // EPOCH))
        for seed in seeds:
            data = make_data(seed)
            for order in ORDERS:
                shown = ProgressOfFit(bar, row, f"seed {seed}, {order}")
                logs = train(order, data, seed, steps, first, [shown, StopWhenLearned()])
                bar.advance(row, steps // EPOCH - len(logs["loss"]))
                found[order].append(logs)
    return found


def report(found, steps):
    """Prints how many steps each order needed."""
    title = f"Steps until five bits are right in {ENOUGH:.0%}, {len(found['hard alone'])} seeds"
    table = Table(title=title, title_justify="left")
    for column in ("order", "all steps", "of the hard task", "learned"):
        table.add_column(column, justify="left" if column == "order" else "right")
    for order, runs in found.items():
        needed = [steps_needed(logs, steps) for logs in runs]
        total, own, learned = zip(*needed, strict=True)
        table.add_row(order, mean_and_spread(total, 0), mean_and_spread(own, 0), f"{sum(learned)} of {len(runs)}")
    console.print(table)
    console.print(f"A run that did not learn it counts with its {steps:,} steps.")


def draw(found, path):
    """Test accuracy of the hard task, one line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, sharex=True)
    for index, (axes, (order, runs)) in enumerate(zip(panels, found.items(), strict=True)):
        for logs in runs:
            accuracy = logs[f"val_{HARD}_accuracy"]
            axes.plot((1 + np.arange(len(accuracy))) * EPOCH, accuracy, color=f"C{index}", alpha=0.8)
        axes.axhline(ENOUGH, color="gray", linewidth=0.8, linestyle="--")
        axes.set_title(order, fontsize="medium")
        axes.set_xlabel("steps")
    panels[0].set_ylabel("test accuracy, five bits")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--first", type=int, default=800, help="steps of the first task before both")
    arguments = parser.parse_args()
    steps, first = (400, 200) if arguments.quick else (arguments.steps, arguments.first)
    found = run(range(1 if arguments.quick else arguments.seeds), steps, first)
    report(found, steps)
    path = output_folder("parity_curriculum-quick" if arguments.quick else "parity_curriculum") / "results.png"
    draw(found, path)
    console.print(f"Picture: {path}")


if __name__ == "__main__":
    main()
