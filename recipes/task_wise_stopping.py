"""Landmarks of faces with four auxiliary tasks: does it help to stop each one when it has had its time?

TCDCN (Zhang et al., ECCV 2014) finds five landmarks of a face and, beside it, tells pose, gender, glasses and smile.
Auxiliary tasks are stopped one by one, by a rule of trend and generalization gap. Here it is on small generated faces
(recipes/data/generated_faces.py), 300 of them to train on, half of them partly hidden:

    landmarks alone      the main task
    all tasks            with the four auxiliary tasks, to the end
    TCDCN's rule         the same; TaskEarlyStopping with tcdcn_criterion stops the auxiliary tasks
    patience             the same; an auxiliary task stops after 10 epochs without a lower validation loss
    none after 1/4       the same; all auxiliary tasks end with a quarter of the epochs (WeightSchedule)

The score is the mean distance of the landmarks to the truth on 1,500 test faces, in units of the distance between the
eyes. All models have the same network, epochs, batches, optimizer and learning rate, several seeds, and the same faces.

What it can show: whether the rule stops the tasks at a sensible time, and whether that helps the main task here. What
it cannot: the paper's gain on photographs. The rule's threshold depends on the data (the paper's own is not known):
0.2 was chosen on the validation faces with a seed of its own, where it stops all four tasks between epochs 22 and 43;
with 50 none stops in 80. --thresholds tries others.

    python recipes/task_wise_stopping.py [--quick] [--seeds 5] [--epochs 80] [--thresholds 0.2,50]

Logs of the first seed for TensorBoard and a picture of the results go to runs/task_wise_stopping/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, progress, seeds_tell_apart

import keras
import numpy as np
import tensorflow as tf
from data.generated_faces import ATTRIBUTES, SIDE, generated_faces
from rich.table import Table

from keras_mtl import callbacks, hard_sharing

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

ALONE, ALL, PATIENCE, QUARTER = "landmarks alone", "all tasks", "patience", "none after 1/4"
BATCH = 32
WINDOW = 5
# Chosen on the validation faces, with a seed of its own: with 5 in place of 50, four tasks are far worse than one.
WEIGHTS = {"landmarks": 50.0, **dict.fromkeys(ATTRIBUTES, 0.3)}


@keras.saving.register_keras_serializable()
def absolute_tanh(x):
    return keras.ops.abs(keras.ops.tanh(x))


def build(tasks):
    """TCDCN in small: convolutions with |tanh|, a dense layer, linear heads."""
    layers = keras.layers

    def convolution(filters, size):
        return [
            layers.Conv2D(filters, size, padding="same"),
            layers.Activation(absolute_tanh),
            layers.MaxPooling2D(),
        ]

    dense = [layers.Flatten(), layers.Dense(100, activation=absolute_tanh)]
    model = hard_sharing(
        keras.Input((SIDE, SIDE, 1)),
        [convolution(16, 5), convolution(48, 3), convolution(64, 3), dense],
        {task: layers.Dense(ATTRIBUTES.get(task, 10)) for task in tasks},
    )
    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={task: "mse" if task == "landmarks" else classes for task in tasks},
        loss_weights={task: WEIGHTS[task] for task in tasks},
        metrics={task: ["accuracy"] for task in tasks if task in ATTRIBUTES},
    )
    return model


def stopping_of(name, epochs):
    """The callbacks that a model has beside those of all, and where it stopped."""
    auxiliary = list(ATTRIBUTES)
    if name.startswith("TCDCN"):
        rule = callbacks.tcdcn_criterion(float(name.split()[-1]), window=WINDOW)
        return callbacks.TaskEarlyStopping(auxiliary, criterion=rule, restore_best_weights=False)
    if name == PATIENCE:
        return callbacks.TaskEarlyStopping(auxiliary, patience=10)
    if name == QUARTER:
        return callbacks.WeightSchedule(
            {task: lambda epoch, task=task: WEIGHTS[task] * (epoch < epochs // 4) for task in auxiliary}
        )
    return None


def error(model, data):
    """Mean distance of the landmarks to the truth, in units of the distance between the eyes."""
    pictures, labels = data
    said = model.predict(pictures, batch_size=500, verbose=0)["landmarks"].reshape(-1, 5, 2)
    truth = labels["landmarks"].reshape(-1, 5, 2)
    eyes = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1, keepdims=True)
    return float(np.mean(np.linalg.norm(said - truth, axis=2) / eyes))


def run(names, seeds, data, epochs, folder):
    """Trains and tests every model with every seed.

    Returns:
        Dict from model to a dict of lists by seed: "error"; "stopped", dicts from task to epoch; "curve", validation
        losses of the landmarks.
    """
    results = {name: {"error": [], "stopped": [], "curve": []} for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            for name in names:
                keras.utils.clear_session()
                keras.utils.set_random_seed(seed)
                tasks = ("landmarks",) if name == ALONE else ("landmarks", *ATTRIBUTES)
                parts = {split: (x, {task: y[task] for task in tasks}) for split, (x, y) in data.items()}
                model, stopping = build(tasks), stopping_of(name, epochs)
                logs = folder / "logs" / name.replace(" ", "_").replace("/", "_").replace("'", "") / f"seed{seed}"
                watching = [*([stopping] if stopping else []), ProgressOfFit(bar, row, f"{name}, seed {seed}")]
                if seed == seeds[0]:
                    watching.append(callbacks.TaskBoard(logs, images_every=0))
                history = model.fit(
                    *parts["train"],
                    batch_size=BATCH,
                    epochs=epochs,
                    validation_data=parts["validation"],
                    validation_batch_size=500,
                    callbacks=watching,
                    verbose=0,
                )
                result = results[name]
                result["error"].append(error(model, parts["test"]))
                result["stopped"].append(getattr(stopping, "stopped", {}))
                result["curve"].append(history.history["val_landmarks_loss"])
                stopped = ", ".join(f"{task} {epoch + 1}" for task, epoch in result["stopped"][-1].items())
                said = f"{result['error'][-1]:.4f}" + (f"  stopped after epoch: {stopped}" if stopped else "")
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}", soft_wrap=True)
    return results


def report(results, seeds):
    """Prints the table and what its differences are worth."""
    table = Table(title=f"Mean error on the test faces, {len(seeds)} seeds", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("error, % of the eyes' distance", "against alone", "against all tasks", "stopped after epoch"):
        table.add_column(column, justify="right")
    for name, result in results.items():
        errors = 100 * np.array(result["error"])
        ratios = [f"× {errors.mean() / (100 * np.mean(results[other]['error'])):.3f}" for other in (ALONE, ALL)]
        epochs = [epoch + 1 for stopped in result["stopped"] for epoch in stopped.values()]
        ended = f"{min(epochs)} to {max(epochs)}" if epochs else ""
        kept = len(seeds) * len(ATTRIBUTES) - len(epochs)
        if epochs and kept:
            ended += f" ({kept} of {kept + len(epochs)} never)"
        table.add_row(name, mean_and_spread(errors, digits=2), *ratios, ended)
    console.print(table)
    if len(seeds) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    others = [name for name in results if name not in (ALONE, ALL)]
    for reference in (ALONE, ALL):
        compared = [*others, ALL] if reference == ALONE else others
        apart = [
            n for n in compared if seeds_tell_apart(results[n]["error"], results[reference]["error"], len(compared))
        ]
        better = [n for n in apart if np.mean(results[n]["error"]) < np.mean(results[reference]["error"])]
        worse = [n for n in apart if n not in better]
        console.print(
            f"Against {reference}, by Welch's test at 5 % shared out over {len(compared)} comparisons: better: "
            f"{', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."
        )


def draw(results, data, path):
    """Some faces, every model's error with every seed, and when tasks stopped."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 2.6])
    pictures, labels = data["test"]
    for index, axis in enumerate(upper.subplots(1, 9)):
        points = (labels["landmarks"][index].reshape(5, 2) + 1) / 2 * SIDE - 0.5
        axis.imshow(pictures[index, :, :, 0], cmap="gray", vmin=0, vmax=1)
        axis.plot(*points.T, "o", color="tab:red", markersize=2.5)
        axis.axis("off")
    left, right = lower.subplots(1, 2, width_ratios=[1, 1.2])
    for y, (name, result) in enumerate(results.items()):
        left.plot(100 * np.array(result["error"]), np.full(len(result["error"]), y), "o", color=f"C{y}", alpha=0.6)
        left.plot(100 * np.mean(result["error"]), y, "|", color="black", markersize=16)
        curves = np.array(result["curve"])
        right.plot(range(1, curves.shape[1] + 1), curves.mean(0), color=f"C{y}", label=name)
        for stopped in result["stopped"]:
            for epoch in stopped.values():
                right.plot(epoch + 1, curves.mean(0)[epoch], "|", color=f"C{y}", markersize=12)
    left.axvline(100 * np.mean(results[ALONE]["error"]), color="black", linewidth=0.8, linestyle=":")
    left.set_yticks(range(len(results)), results)
    left.invert_yaxis()
    left.set_xlabel("test error in percent of the eyes' distance (dots: seeds)")
    left.grid(axis="x", alpha=0.3)
    right.set_yscale("log")
    right.set_xlabel("epoch (|: an auxiliary task stops)")
    right.set_ylabel("validation loss of the landmarks")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 80)")
    parser.add_argument("--thresholds", default="0.2", help="of TCDCN's rule (default: %(default)s)")
    options = parser.parse_args()
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (8 if options.quick else 80)
    sizes = {"train": 300, "validation": 300, "test": 300 if options.quick else 1500}

    folder = output_folder("task_wise_stopping-quick" if options.quick else "task_wise_stopping")
    data = {split: generated_faces(size, (0, i)) for i, (split, size) in enumerate(sizes.items())}
    rules = [f"TCDCN's rule, {threshold}" for threshold in options.thresholds.split(",")]
    results = run([ALONE, ALL, *rules, PATIENCE, QUARTER], seeds, data, epochs, folder)
    report(results, seeds)
    draw(results, data, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
