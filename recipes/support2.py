"""Nine tasks on 9,105 seriously ill patients, with the gaps that their labels have.

Death, a wish not to be resuscitated, state after two months, length and cost of the stay: each task is known for some
of the patients only, one of the costs for 61 %. The recipe first counts the labels, then trains a column for each task
and models that share, and compares them on test patients: area under the ROC curve for the three yes-or-no tasks,
accuracy for the state (five classes), the share of the variance explained for the rest, all times 100. Each task is
trained and measured on its own labelled patients. A last line says how far what Keras logged is from the same numbers
worked out in NumPy on the labelled rows.

What it can show: whether tasks with gaps gain from sharing with those that have fewer. What it cannot: anything about
medicine. Inputs are what was known by the third day; forecasts by physicians are left out. Nothing was tuned for a
model of its own, and the test patients choose nothing.

    python recipes/support2.py [--quick] [--models mmoe,...] [--seeds 5] [--epochs 20]

Logs for TensorBoard and a picture of the results go to runs/support2/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import (
    ProgressOfFit,
    area_under_roc,
    console,
    delta_m,
    mean_and_spread,
    output_folder,
    pairs_tell_apart,
    progress,
)

import keras
import numpy as np
import tensorflow as tf
from data import support2
from rich import box
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

SINGLE = "single-task"
BATCH = 128
LEARNING_RATE = 1e-3
HIDDEN = [64, 32]
# Builder, its options, and what sets the task weights.
MODELS = {
    SINGLE: (keras_mtl.hard_sharing, {"shared_depth": 0}, "equal"),
    "hard sharing": (keras_mtl.hard_sharing, {}, "equal"),
    "hard + uncertainty": (keras_mtl.hard_sharing, {}, "uncertainty"),
    "MMoE": (keras_mtl.mmoe, {"experts": 4}, "equal"),
    "CGC": (keras_mtl.cgc, {"shared_experts": 2, "task_experts": 1}, "equal"),
}


def build(name, width, dropout=0.2):
    """A model of two hidden layers, with logits for classes and numbers for numbers.

    Args:
        name: String. A key of `MODELS`.
        width: Integer. Number of input columns.
        dropout: Float. Defaults to 0.2.
    """
    layers = keras.layers
    builder, options, _ = MODELS[name]
    classes = support2.CLASSES
    sizes = {task: 1 if classes.get(task, 2) == 2 else classes[task] for task in support2.TASKS}
    stages = [
        [layers.Dense(units, activation="relu", name=f"hidden_{i}"), layers.Dropout(dropout)]
        for i, units in enumerate(HIDDEN)
    ]
    heads = {task: layers.Dense(size) for task, size in sizes.items()}
    return builder(inputs=keras.Input((width,)), stages=stages, heads=heads, **options)


def compile_options():
    """Losses, metrics and what a missing label is."""
    loss, metrics = {}, {}
    for task in support2.TASKS:
        classes = support2.CLASSES.get(task)
        if classes is None:
            loss[task], metrics[task] = "mse", ["mae"]
        elif classes == 2:
            loss[task] = keras.losses.BinaryCrossentropy(from_logits=True)
            metrics[task] = [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        else:
            loss[task], metrics[task] = keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    return {"loss": loss, "metrics": metrics, "missing": "nan"}


def by_hand(predictions, labels):
    """Losses and metrics of every task in NumPy, over its labelled rows alone.

    Args:
        predictions: Dict from task to array: logits or numbers.
        labels: Dict from task to array of shape (n, 1), NaN where a label is missing.

    Returns:
        Dict from the name in the logs to a number.
    """
    logs = {}
    for task, y in labels.items():
        known = ~np.isnan(y[:, 0])
        y, z = y[known, 0].astype("float64"), predictions[task][known].astype("float64")
        classes = support2.CLASSES.get(task)
        if classes is None:
            logs[f"{task}_loss"] = np.mean((z[:, 0] - y) ** 2)
            logs[f"{task}_mae"] = np.mean(np.abs(z[:, 0] - y))
        elif classes == 2:
            logs[f"{task}_loss"] = np.mean(np.logaddexp(0, z[:, 0]) - y * z[:, 0])
            logs[f"{task}_accuracy"] = np.mean((z[:, 0] > 0) == (y > 0))
        else:
            of_class = z[np.arange(len(y)), y.astype(int)]
            logs[f"{task}_loss"] = np.mean(np.logaddexp.reduce(z, axis=1) - of_class)
            logs[f"{task}_accuracy"] = np.mean(z.argmax(axis=1) == y)
    logs["loss"] = sum(value for name, value in logs.items() if name.endswith("_loss"))
    return logs


def scores(predictions, labels):
    """What the table shows of every task: more is better, 100 is best."""
    found = {}
    for task, y in labels.items():
        known = ~np.isnan(y[:, 0])
        y, z = y[known, 0], predictions[task][known]
        classes = support2.CLASSES.get(task)
        if classes is None:
            found[task] = 100 * (1 - np.mean((z[:, 0] - y) ** 2) / np.var(y))
        elif classes == 2:
            found[task] = 100 * area_under_roc(y, z[:, 0])
        else:
            found[task] = 100 * np.mean(z.argmax(axis=1) == y)
    return found


def train(name, seed, data, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    model = build(name, inputs.shape[1])
    steps = epochs * -(-len(inputs) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        weighting=MODELS[name][2],
        steps_per_execution=8,
        **compile_options(),
    )
    model.fit(inputs, labels, BATCH, epochs, validation_data=data["validation"], callbacks=callbacks, verbose=0)
    return model


def run(names, seeds, epochs, folder, arrays):
    """Trains and tests every model with every seed, which draws the split too.

    Returns:
        Dict from model to dict of lists, and the largest difference between logs and NumPy, relative to the number.
    """
    results, difference = {name: {} for name in names}, 0.0
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            data = support2.support2(seed, arrays)
            inputs, labels = data["test"]
            for name in names:
                logs = folder / "logs" / name.replace(" ", "_") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                model = train(name, seed, data, epochs, callbacks)
                predictions = model.predict(inputs, batch_size=1024, verbose=0)
                logged = model.evaluate(inputs, labels, batch_size=1024, verbose=0, return_dict=True)
                expected = by_hand(predictions, labels)
                difference = max(difference, *(abs(logged[key] / value - 1) for key, value in expected.items()))
                for task, score in scores(predictions, labels).items():
                    results[name].setdefault(task, []).append(score)
                results[name]["parameters"] = model.count_params()
                said = ", ".join(f"{task} {results[name][task][-1]:.1f}" for task in ("dead_180", "micro_cost"))
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}")
    return results, difference


def report(results, seeds):
    """Prints the table, and which differences from single-task the seeds carry."""
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    title = f"Test scores x 100, {spread}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", no_wrap=True)
    for name in results:
        table.add_column(name.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for task in support2.TASKS:
        table.add_row(task, *(mean_and_spread(result[task]) for result in results.values()))
    table.add_section()
    if SINGLE in results:
        by_task = [{task: result[task] for task in support2.TASKS} for result in results.values()]
        table.add_row("delta_m, %", *(mean_and_spread(delta_m(x, results[SINGLE]), signed=True) for x in by_task))
    table.add_row("parameters", *(f"{result['parameters']:,}" for result in results.values()))
    console.print(table)
    if SINGLE not in results or len(seeds) < 3:
        console.print("Without single-task models and 3 seeds, no difference in this table means anything.")
        return
    for name in results:
        if name != SINGLE:
            pairs = {task: (results[name][task], results[SINGLE][task]) for task in support2.TASKS}
            differ = [task for task, pair in pairs.items() if pairs_tell_apart(*pair, comparisons=len(pairs))]
            words = [f"{task} ({np.mean(np.subtract(*pairs[task])):+.1f})" for task in differ]
            console.print(f"{name}, differences from single-task that these seeds carry: {', '.join(words) or 'none'}")


def draw(results, path):
    """A panel for each task: every seed's score, and the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(support2.TASKS)
    figure, axes = plt.subplots(3, 3, figsize=(11, 8), sharey=True, layout="constrained")
    for axis, task in zip(axes.flat, tasks, strict=True):
        for y, result in enumerate(results.values()):
            axis.plot(result[task], np.full(len(result[task]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
            axis.plot(np.mean(result[task]), y, "|", color="black", markersize=16)
        if SINGLE in results:
            axis.axvline(np.mean(results[SINGLE][task]), color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(results)), results)
        kind = support2.CLASSES.get(task)
        axis.set_xlabel("R² x 100" if kind is None else "AUC x 100" if kind == 2 else "accuracy, %")
        axis.set_title(task, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and two epochs: that it runs")
    parser.add_argument("--models", default=",".join(MODELS), help="some of: %(default)s (default: all)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 20)")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise SystemExit(f"--models takes some of: {', '.join(MODELS)}. Received: {', '.join(unknown)}")
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (2 if options.quick else 20)

    folder = output_folder("support2-quick" if options.quick else "support2")
    arrays = support2.load()
    labels = {task: arrays[f"labels/{task}"] for task in support2.TASKS}
    console.print(str(keras_mtl.data.missing_report(labels, missing="nan", batch_size=BATCH)))
    results, difference = run(names, seeds, epochs, folder, arrays)
    report(results, seeds)
    draw(results, folder / "results.png")
    console.print(
        f"Largest difference between a logged loss or metric and NumPy on the labelled rows: {difference:.1e}"
    )
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
