"""Do groups chosen by affinity train better? Fourteen labels of yeast genes.

One network of all labels is trained and watched; the look-ahead affinities choose groups within a budget of networks.
Then, with several seeds and from scratch: a network for each chosen group, one for each group of a random grouping of
the same sizes (another one for each seed), one network of all labels, and a network for each label. All have the same
stages, epochs and learning rate. The table has test errors' mean relative gain over single-task networks (delta_m),
with its interval. The affinities come from the training genes alone; the test genes choose nothing.

What it can show: whether choosing by affinity beats chance at the same cost, here. What it cannot: that it does
elsewhere; the labels are noisy, the test set has 917 genes, and nothing was tuned.

    python recipes/task_grouping.py [--quick] [--scores look_ahead] [--budget 3] [--seeds 5] [--epochs 20]

Pictures and the report go to runs/task_grouping/; a call that was stopped goes on from there.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import tensorflow as tf
from common import console, output_folder
from data import yeast
from rich.table import Table

import keras_mtl
from keras_mtl import analysis
from keras_mtl.analysis.statistics import confidence_interval, mean_and_spread

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

SCORES = ("look_ahead", "cosine", "representation", "labels")


def build(tasks):
    """A dense trunk and a unit for each label."""
    layers = keras.layers
    model = keras_mtl.hard_sharing(
        inputs=keras.Input((yeast.INPUTS,)),
        stages=[[layers.Dense(64, activation="relu", name="hidden"), layers.Dropout(0.3)]],
        heads={task: layers.Dense(1, activation="sigmoid") for task in tasks},
    )
    model.compile(keras.optimizers.Adam(2e-3), loss="binary_crossentropy", steps_per_execution=6)
    return model


def load(tasks, quick):
    """Training and test data with a dict of labels."""
    splits = yeast.yeast()
    rows = 200 if quick else None
    return [
        (inputs[:rows], {task: labels[:rows, int(task.split("_")[1]), None] for task in tasks})
        for inputs, labels in (splits["train"], splits["test"])
    ]


def report(study):
    """Prints delta_m of each candidate with its interval, and what it says."""
    found = study.report
    table = Table(title=f"Cross entropy on test genes, gain over single-task, {len(found.seeds)} seeds")
    table.add_column("model")
    for column in ("delta_m, %", "95 % interval", "parameters"):
        table.add_column(column, justify="right")
    gains = {name: found.delta_m(name) for name in found.runs}
    for name, values in gains.items():
        mean, spread = mean_and_spread(values)
        interval = confidence_interval(values) if len(values) > 1 else None
        span = "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"
        parameters = f"{found.runs[name][0]['parameters']:,}"
        table.add_row(name, f"{mean:+.2f} ± {spread:.2f}", span, parameters)
    console.print(table)
    if len(found.seeds) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    pairs = zip(gains["chosen groups"], gains["random groups"], strict=True)
    low, high = confidence_interval([chosen - random for chosen, random in pairs])
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
    console.print(f"Chosen less random groups: {low:+.2f} to {high:+.2f}; chosen groups are {verdict} random ones.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four labels, few genes, one seed: that it runs")
    parser.add_argument("--scores", choices=SCORES, default="look_ahead")
    parser.add_argument("--budget", type=int, default=3, help="number of networks (default: 3)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 20)")
    options = parser.parse_args()
    tasks = [f"label_{i}" for i in range(4 if options.quick else yeast.LABELS)]
    folder = output_folder("task_grouping-quick" if options.quick else "task_grouping")
    train, test = load(tasks, options.quick)
    epochs = options.epochs or (1 if options.quick else 20)
    study = analysis.group_and_compare(
        build,
        train,
        test=test,
        metrics=dict.fromkeys(tasks, "loss"),
        budget=min(options.budget, len(tasks)),
        scores=options.scores,
        epochs=epochs,
        seeds=options.seeds or (1 if options.quick else 5),
        every=6,
        directory=folder / f"{options.scores}-{options.budget}-{epochs}",
        batch_size=64,
    )
    console.print(str(study.grouping))
    report(study)
    study.scores.plot(folder / "affinity.png")
    study.scores.symmetric().plot_dendrogram(folder / "dendrogram.png", len(study.grouping.groups))
    budgets = range(1, len(tasks) // 2 + 1)
    analysis.plot_budgets([analysis.group_tasks(study.scores, b) for b in budgets], folder / "budgets.png")
    study.report.to_json(folder / "report.json")
    console.print(f"Pictures: {folder}")


if __name__ == "__main__":
    main()
