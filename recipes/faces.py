"""Skin, glasses and smile of drawn faces: one trunk loses the smile. Which ways of sharing find it again?

Each task is easy alone. Trained together in one trunk, for the same number of epochs, skin and glasses take the trunk
over and the smile is hardly learned: negative transfer, strong and cheap to see (recipes/data/faces.py makes the
faces). Every model below gets the same pictures, epochs, batches, optimizer and learning rate, with several seeds. The
table compares test accuracies with those of single-task models: delta_m is the mean over the tasks of the relative
gain, in percent. A model repairs sharing where smile is within 2 points of single-task and the others within 1.

What it can show: which ways of sharing, and which weightings, repair this. What it cannot: that they would elsewhere.
At this budget no model is trained to the end, and three times the epochs repair much of it too. Columns of their own
cost parameters and time, which the table shows. The budget and the learning rate were chosen while looking at one seed;
the weights are those after the last epoch.

    python recipes/faces.py [--quick] [--all] [--models "hard sharing,cross-stitch"] [--landmarks] [--seeds 5]

Logs for TensorBoard and a picture of the results go to runs/faces/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import ProgressOfFit, console, delta_m, mean_and_spread, output_folder, progress
from data.faces import SIDE, SPLITS, faces
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

CLASSES = {"skin": 7, "glasses": 2, "smile": 2}
SINGLE = "single-task"
BATCH = 64
LEARNING_RATE = 1e-3  # a fifth of it in the last third of the steps
# Builder, its options, and what `compile` gets.
MODELS = {
    SINGLE: (keras_mtl.hard_sharing, {"shared_depth": 0}, {}),
    "hard sharing": (keras_mtl.hard_sharing, {}, {}),
    "hard + IMTL-G": (keras_mtl.hard_sharing, {}, {"weighting": "imtl_g", "gradients": "features"}),
    "2 stages shared": (keras_mtl.hard_sharing, {"shared_depth": 2}, {}),
    "1 stage shared": (keras_mtl.hard_sharing, {"shared_depth": 1}, {}),
    "cross-stitch": (keras_mtl.cross_stitch, {}, {}),
    "CGC": (keras_mtl.cgc, {"shared_experts": 1, "task_experts": 1, "shared_depth": 1}, {}),
}
MORE = {
    "hard + uncertainty": (keras_mtl.hard_sharing, {}, {"weighting": "uncertainty"}),
    "hard + DWA": (keras_mtl.hard_sharing, {}, {"weighting": "dwa"}),
    "hard + MGDA": (keras_mtl.hard_sharing, {}, {"weighting": "mgda", "gradients": "features"}),
    "hard + Aligned": (keras_mtl.hard_sharing, {}, {"weighting": "aligned", "gradients": "features"}),
    "hard + PCGrad": (keras_mtl.hard_sharing, {}, {"weighting": "pcgrad"}),
    "3 stages shared": (keras_mtl.hard_sharing, {"shared_depth": 3}, {}),
    "soft sharing": (keras_mtl.soft_sharing, {"strength": 1e-4}, {}),
    "MMoE": (keras_mtl.mmoe, {"experts": 3, "shared_depth": 1}, {}),
}


def build(name, tasks):
    """Three convolutions and a dense layer, each a stage, and a linear head for each task."""
    layers = keras.layers
    builder, options, _ = (MODELS | MORE)[name]
    return builder(
        inputs=keras.Input((SIDE, SIDE, 3)),
        stages=[
            [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(64, activation="relu")],
        ],
        heads={task: layers.Dense(CLASSES.get(task, 10)) for task in tasks},
        **options,
    )


def train(name, tasks, seed, data, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(name, tasks)
    steps = epochs * -(-len(data["train"][0]) // BATCH)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps // 3], [LEARNING_RATE, LEARNING_RATE / 5])
    model.compile(
        optimizer=keras.optimizers.Adam(rates),
        loss={
            t: "mse" if t == "landmarks" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            for t in tasks
        },
        metrics={task: ["accuracy"] for task in CLASSES},
        **(MODELS | MORE)[name][2],
    )
    model.fit(
        *data["train"],
        batch_size=BATCH,
        epochs=epochs,
        validation_data=data["validation"],
        validation_batch_size=500,
        callbacks=callbacks,
        verbose=0,
    )
    return model


def score(model, data):
    """Test accuracy in percent; for landmarks, the mean error in percent of the distance between the eyes."""
    pictures, labels = data
    outputs = model.predict(pictures, batch_size=500, verbose=0)
    scores = {}
    for task, truth in labels.items():
        if task == "landmarks":
            points, said = truth.reshape(-1, 5, 2), outputs[task].reshape(-1, 5, 2)
            eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1, keepdims=True)
            scores[task] = 100 * np.mean(np.linalg.norm(points - said, axis=2) / eyes)
        else:
            scores[task] = 100 * np.mean(outputs[task].argmax(axis=1) == truth)
    return scores


def run(names, tasks, seeds, data, epochs, folder):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    results = {name: {key: [] for key in (*tasks, "seconds")} for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            for name in names:
                logs = folder / "logs" / name.replace(" ", "_").replace("+", "and") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                start = time.perf_counter()
                model = train(name, tasks, seed, data, epochs, callbacks)
                seconds = time.perf_counter() - start
                scores = score(model, data["test"])
                for key, value in {"seconds": seconds, **scores}.items():
                    results[name][key].append(value)
                results[name]["parameters"] = model.count_params()
                said = ", ".join(f"{task} {value:.1f}" for task, value in scores.items())
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}  ({seconds:.0f} s)")
    return results


def losses_of(result, single, tasks):
    """Points lost against single-task, by task; less than 0 where there is a gain."""
    return {task: np.mean(single[task]) - np.mean(result[task]) for task in tasks if task in CLASSES}


def repaired(lost):
    return all(points <= (2.0 if task == "smile" else 1.0) for task, points in lost.items())


def report(results, tasks, seeds):
    """Prints the table, and which models repair sharing."""
    single = results[SINGLE]
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(
        title=f"Test accuracy in percent, {spread}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("model", no_wrap=True)
    for column in ("params", "s", *tasks, "delta_m"):
        table.add_column(column, justify="right", overflow="fold")
    for name, result in results.items():
        gains = delta_m({task: result[task] for task in tasks}, single, lower_is_better=("landmarks",))
        table.add_row(
            name,
            f"{result['parameters'] / 1000:.0f}k",
            f"{np.mean(result['seconds']):.0f}",
            *(mean_and_spread(result[task]) for task in tasks),
            mean_and_spread(gains, signed=True),
            end_section=name == SINGLE,
        )
    console.print(table)
    if "landmarks" in tasks:
        console.print("landmarks: mean error in percent of the distance between the eyes, less is better")
    if len(seeds) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    found = [name for name in results if name != SINGLE and repaired(losses_of(results[name], single, tasks))]
    console.print(f"Smile within 2 points of single-task, the others within 1: {', '.join(found) or 'none'}")


def draw(results, tasks, data, path):
    """Some test faces with their labels, and every model's accuracy with every seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 3.2 + 0.36 * len(results)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.6, 0.8 + 0.36 * len(results)])
    pictures, labels = data["test"]
    for index, axis in enumerate(upper.subplots(1, 9)):
        words = [f"skin {labels['skin'][index]}"]
        words += [("with " if labels[task][index] else "no ") + task for task in ("glasses", "smile")]
        axis.imshow(pictures[index])
        axis.set_title("\n".join(words), fontsize=8)
        axis.axis("off")
    tasks = [task for task in tasks if task in CLASSES]
    for axis, task in zip(lower.subplots(1, len(tasks), sharey=True), tasks, strict=True):
        for y, (name, result) in enumerate(results.items()):
            color = "black" if name == SINGLE else f"C{y}"
            axis.plot(result[task], np.full(len(result[task]), y), "o", color=color, alpha=0.6, markersize=5)
            axis.plot(np.mean(result[task]), y, "|", color="black", markersize=14)
        axis.axvline(np.mean(results[SINGLE][task]), color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(results)), results)
        axis.set_xlabel(f"{task}: test accuracy in percent")
        axis.grid(axis="x", alpha=0.3)
        axis.label_outer()
        if task == tasks[0]:
            axis.invert_yaxis()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few faces, two models, one seed and epoch: that it runs")
    parser.add_argument("--all", action="store_true", help=f"these models too: {', '.join(MORE)}")
    parser.add_argument("--models", help=f"some of: {', '.join([*MODELS, *MORE])}")
    parser.add_argument("--landmarks", action="store_true", help="a fourth task: where eyes, nose and mouth are")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 3)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 6)")
    options = parser.parse_args()
    names = list(MODELS | MORE if options.all else MODELS)[: 2 if options.quick and not options.all else None]
    if options.models:
        names = [SINGLE, *(name for name in options.models.split(",") if name != SINGLE)]
        if unknown := [name for name in names if name not in MODELS | MORE]:
            parser.error(f"--models takes some of: {', '.join(MODELS | MORE)}. Received: {', '.join(unknown)}")
    tasks = (*CLASSES, "landmarks") if options.landmarks else tuple(CLASSES)
    seeds = range(options.seeds or (1 if options.quick else 3))
    epochs = options.epochs or (1 if options.quick else 6)
    splits = {"train": 400, "validation": 100, "test": 100} if options.quick else SPLITS

    folder = output_folder("faces-quick" if options.quick else "faces")

    def show(steps, total):
        return track(steps, "rendering faces, once", total, console=console)

    data = faces(tasks, splits, track=show)
    results = run(names, tasks, seeds, data, epochs, folder)
    report(results, tasks, seeds)
    draw(results, tasks, data, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
