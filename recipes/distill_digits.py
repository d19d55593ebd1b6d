"""Four teachers of handwritten digits, one student without a single label.

Four tasks on real digits: which digit, even or odd, at least five, with a loop or without. Each teacher is a network of
its own that learned one task from 500 labelled pictures, other pictures for each task. The student is one trunk with
four heads, about a quarter of the teachers' parameters. It sees 2,000 other pictures without labels, and what the
teachers say of them. Compared are, on 1,000 test pictures and with several seeds:

    teachers               a network for each task, 500 labels each
    joint                  the student's network, without teachers, on the teachers' pictures: one label for each
    distilled              the student on the unlabelled pool, taught by the teachers alone
    distilled + labels     on the pool and the teachers' pictures, labels taking over as training goes on (BAM)

Teachers and students alike see their pictures moved by up to two pixels, others in every epoch.

What it must show: that the student without a label is within 2.5 points of every teacher with every seed. What it
cannot: that distilling beats labels; the last row has more pictures than the first two, and no label more.

    python recipes/distill_digits.py [--quick] [--seeds 5] [--epochs 40] [--temperature 2]

Logs for TensorBoard and a picture of the results go to runs/distill_digits/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, mean_and_spread, output_folder, progress

import keras
import numpy as np
import tensorflow as tf
from data.digits import load_digits
from rich.box import SIMPLE_HEAD
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

TASKS = {
    "digit": lambda classes: classes,
    "even": lambda classes: (classes % 2 == 0).astype("int32"),
    "at_least_five": lambda classes: (classes >= 5).astype("int32"),
    "loop": lambda classes: np.isin(classes, [0, 6, 8, 9]).astype("int32"),
}
CLASSES = {"digit": 10, "even": 2, "at_least_five": 2, "loop": 2}
LABELLED, POOL, TEST = 500, 2000, 1000
BATCH = 50
SHIFT = 2  # pixels
MODELS = ("teachers", "joint", "distilled", "distilled + labels")


def split(images, classes, seed):
    """Test pictures, the unlabelled pool, and other labelled pictures for each task."""
    order = np.random.default_rng(seed).permutation(len(images))
    sizes = [TEST, POOL, *[LABELLED] * len(TASKS)]
    parts = np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])
    named = dict(zip(["test", "pool", *TASKS], parts, strict=True))
    return {name: (images[rows, :, :, None], classes[rows]) for name, rows in named.items()}


def build(tasks):
    layers = keras.layers
    return keras_mtl.hard_sharing(
        inputs=keras.Input((28, 28, 1)),
        stages=[
            [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(32, activation="relu")],
        ],
        heads={task: layers.Dense(CLASSES[task]) for task in tasks},
    )


def shifted(picture, *labels):
    """A picture moved by up to `SHIFT` pixels, and its labels."""
    height, width, channels = picture.shape
    larger = tf.image.resize_with_crop_or_pad(picture, height + 2 * SHIFT, width + 2 * SHIFT)
    return tf.image.random_crop(larger, (height, width, channels)), *labels


def train(model, x, y, epochs, callbacks):
    """Trains for as many steps whatever the number of pictures: `epochs` are those of the pool."""
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        missing=-1,
        steps_per_execution=10,
    )
    epochs = max(1, round(epochs * POOL / len(x)))
    pictures = tf.data.Dataset.from_tensor_slices((x,) if y is None else (x, y))
    batches = pictures.shuffle(len(x)).map(shifted).batch(BATCH)
    model.fit(batches, shuffle=False, epochs=epochs, callbacks=callbacks, verbose=0)
    return model


def labelled_pictures(data, also_pool=False):
    """The teachers' pictures together, each with the label of one task, and -1 for the others."""
    parts = [data[task][0] for task in TASKS] + ([data["pool"][0]] if also_pool else [])
    labels = {task: np.full(sum(map(len, parts)), -1, "int32") for task in TASKS}
    for index, (task, label) in enumerate(TASKS.items()):
        labels[task][index * LABELLED : (index + 1) * LABELLED] = label(data[task][1])
    return np.concatenate(parts), labels


def accuracies(model, data):
    """Test accuracy in percent of the tasks that a model has."""
    x, classes = data["test"]
    outputs = model.predict(x, batch_size=500, verbose=0)
    return {task: 100 * np.mean(outputs[task].argmax(1) == TASKS[task](classes)) for task in outputs}


def run(seeds, images, classes, epochs, temperature, folder):
    """Trains and tests everything with every seed. Returns a dict from model to dict of lists."""
    results = {name: {task: [] for task in TASKS} for name in MODELS}
    parameters = {}
    with progress() as bar:
        row = bar.add_task("", total=len(seeds) * (len(TASKS) + 3))
        for seed in seeds:
            data = split(images, classes, seed)

            def fit(name, model, x, y, seed=seed):
                bar.update(row, description=f"{name}, seed {seed}")
                logs = folder / "logs" / name.replace(" ", "_").replace("+", "and") / f"seed{seed}"
                train(model, x, y, epochs, [keras.callbacks.TensorBoard(logs, write_graph=False)])
                bar.advance(row)

            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            teachers = {}
            for task, label in TASKS.items():
                teachers[task] = build([task])
                fit(f"teacher of {task}", teachers[task], data[task][0], {task: label(data[task][1])})
                results["teachers"][task].append(accuracies(teachers[task], data)[task])
            parameters["teachers"] = sum(teacher.count_params() for teacher in teachers.values())
            for name in MODELS[1:]:
                student = build(TASKS)
                parameters[name] = student.count_params()
                if name == "joint":
                    fit(name, student, *labelled_pictures(data))
                elif name == "distilled":
                    alone = keras_mtl.distillation.distill(student, teachers, temperature=temperature, annealing=0.0)
                    fit(name, alone, data["pool"][0], None)
                else:
                    annealed = keras_mtl.distillation.distill(student, teachers, temperature=temperature)
                    fit(name, annealed, *labelled_pictures(data, also_pool=True))
                for task, value in accuracies(student, data).items():
                    results[name][task].append(value)
                means = ", ".join(f"{task} {results[name][task][-1]:.1f}" for task in TASKS)
                bar.console.print(f"{name:>{max(map(len, MODELS))}}  seed {seed}: {means}")
    return results, parameters


def report(results, parameters, seeds):
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Test accuracy in percent, {spread}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in ("parameters", *TASKS):
        table.add_column(title, justify="right")
    for name, result in results.items():
        table.add_row(name, f"{parameters[name]:,}", *(mean_and_spread(result[task]) for task in TASKS))
    console.print(table)
    below = {task: np.subtract(results["teachers"][task], results["distilled"][task]) for task in TASKS}
    worst = max((value, task, seed) for task in TASKS for seed, value in zip(seeds, below[task], strict=True))
    share = parameters["distilled"] / parameters["teachers"]
    console.print(
        f"The distilled student has {share:.0%} of the teachers' parameters. "
        f"At worst it is {worst[0]:.1f} points below a teacher ({worst[1]}, seed {worst[2]}); expected: at most 2.5."
    )


def draw(results, path):
    """A panel for each task: every seed's accuracy, and the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(12, 3), sharey=True, layout="constrained")
    for axis, task in zip(axes, TASKS, strict=True):
        for y, result in enumerate(results.values()):
            axis.plot(result[task], np.full(len(result[task]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
            axis.plot(np.mean(result[task]), y, "|", color="black", markersize=16)
        axis.axvline(np.mean(results["teachers"][task]), color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(results)), results)
        axis.set_xlabel(f"{task}: test accuracy in percent")
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and epoch: that it runs")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of the pool, or as many steps (default: 40)")
    parser.add_argument("--temperature", type=float, default=2.0, help="of the teachers (default: 2)")
    options = parser.parse_args()
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (1 if options.quick else 40)
    folder = output_folder("distill_digits-quick" if options.quick else "distill_digits")
    images, classes = load_digits()
    results, parameters = run(seeds, images, classes, epochs, options.temperature, folder)
    report(results, parameters, seeds)
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
