"""Exercises of people whom the model has never seen: does it help to forget who is who?

A smart watch sees seven shoulder exercises, done with either arm by ten people. People move in ways of their own, and
the watch sits as it sits, so a network that knows the people of its training by heart may be lost with others. Two of
the ten are held out, and the network learns exercise and side from the other eight:

    tasks alone        nothing else
    subject as a task  and who it is, as one more task
    adversary 1        the same behind a gradient reversal layer: the trunk unlearns what tells the people apart. Its
                       strength grows from 0 to 1 (Ganin et al., 2016), or to 3

How much of the people is left in the trunk is measured after training: a fresh network of the adversary's shape learns
to tell the eight from the trunk's features, and is tested on other windows of the same people. Chance is 12.5 %.

What it can show: whether the trunk forgets, and whether that helps with strangers, over seeds that hold out each
person once. What it cannot: much about people in general, of whom there are ten.

    python recipes/watch_subjects.py [--quick] [--seeds 5] [--epochs 20]

Logs for TensorBoard and a picture of the results go to runs/watch_subjects/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, pairs_tell_apart, progress

import keras
import numpy as np
import tensorflow as tf
from data import watch
from rich.box import SIMPLE_HEAD
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are called with data of several sizes

ALONE = "tasks alone"
MODELS = {ALONE: None, "subject as a task": 0.0, "adversary 1": 1.0, "adversary 3": 3.0}
CLASSES = {"exercise": watch.EXERCISES, "side": 2, "subject": watch.SUBJECTS - watch.HELD_OUT}
COLUMNS = {
    "exercise": "exercise,\nstrangers",
    "side": "side,\nstrangers",
    "exercise, seen": "exercise,\nseen people",
    "subject, probe": "subject,\nprobe",
}
LEARNING_RATE, BATCH, FEATURES = 2e-3, 64, 32
STEPS, AT_ONCE = 24, 8  # of an epoch, about the windows of eight people; and in one call


def classifier(classes):
    """A small network that tells classes from features: adversary and probe."""
    return [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(classes)]


def build(strength):
    """The tasks' model; `strength` is None without the subject, and 0 for the subject as a task."""
    layers = keras.layers
    heads = {task: layers.Dense(CLASSES[task]) for task in ("exercise", "side")}
    if strength is not None:
        reversal = [keras_mtl.layers.GradientReversal(0.0)] if strength else []
        heads["subject"] = [*reversal, *classifier(CLASSES["subject"])]
    return keras_mtl.hard_sharing(
        inputs=keras.Input((watch.LENGTH, 6)),
        stages=[
            [layers.Conv1D(24, 5, activation="relu"), layers.MaxPooling1D(2)],
            [layers.Conv1D(32, 5, activation="relu"), layers.GlobalAveragePooling1D()],
            layers.Dense(FEATURES, activation="relu", name="features"),
        ],
        heads=heads,
    )


class GrowingStrength(keras.callbacks.Callback):
    """Lets the strength of the reversal layer grow over training, by `2 / (1 + exp(-10 p)) - 1`."""

    def __init__(self, strength, executions):
        super().__init__()
        self.strength, self.executions, self.done = strength, executions, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        reversal = self.model.get_layer("subject").stack[0]
        reversal.strength.assign(self.strength * np.tanh(5 * self.done / self.executions))


def compiled(model, epochs):
    """Adam with a rate that falls to 0, as for every network here."""
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * STEPS)
    model.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=AT_ONCE,
    )
    return model


def train(model, fresh, x, y, epochs, seed, callbacks=()):
    """Trains a compiled model from the weights of a fresh one: what was traced for one seed serves the next."""
    model.set_weights(fresh.get_weights())
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).repeat().batch(BATCH)
    model.fit(data, epochs=epochs, steps_per_epoch=STEPS, shuffle=False, callbacks=list(callbacks), verbose=0)


def accuracy(outputs, labels):
    return 100 * np.mean(outputs.argmax(axis=1) == labels)


def build_probe():
    return keras.Sequential([keras.Input((FEATURES,)), *classifier(CLASSES["subject"])])


def test(model, probe, seed, data, epochs):
    """Accuracies in percent: tasks on strangers and on people seen, and how well a probe tells who it is."""
    found = {}
    for split, column in (("held_out", "{task}"), ("seen", "{task}, seen")):
        x, labels = data[split]
        outputs = model.predict(x, batch_size=512, verbose=0)
        for task in ("exercise", "side"):
            found[column.format(task=task)] = accuracy(outputs[task], labels[task])
    trunk = keras.Model(model.inputs[0], model.get_layer("shared_features").output)
    seen = {split: np.asarray(trunk(data[split][0])) for split in ("train", "seen")}
    mean, deviation = seen["train"].mean(axis=0), seen["train"].std(axis=0) + 1e-6
    seen = {split: (values - mean) / deviation for split, values in seen.items()}
    keras.utils.set_random_seed(seed)
    train(probe, build_probe(), seen["train"], data["train"][1]["subject"], epochs, seed)
    found["subject, probe"] = accuracy(np.asarray(probe(seen["seen"])), data["seen"][1]["subject"])
    return found


def run(seeds, epochs, folder, arrays):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    results = {name: {column: [] for column in (*COLUMNS, "side, seen")} for name in MODELS}
    data = {seed: watch.watch(seed, arrays) for seed in seeds}
    probe = compiled(build_probe(), epochs)
    with progress() as bar:
        row = bar.add_task("", total=len(MODELS) * len(seeds) * epochs)
        for name, strength in MODELS.items():
            model = compiled(build(strength), epochs)
            for seed in seeds:
                logs = folder / "logs" / name.replace(" ", "_") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                if strength:
                    callbacks.append(GrowingStrength(strength, epochs * STEPS // AT_ONCE))
                keras.utils.set_random_seed(seed)
                x, labels = data[seed]["train"]
                labels = {task: labels[task] for task in model.tasks}
                train(model, build(strength), x, labels, epochs, seed, callbacks)
                found = test(model, probe, seed, data[seed], epochs)
                for column, value in found.items():
                    results[name][column].append(value)
                said = ", ".join(f"{column} {found[column]:.1f}" for column in COLUMNS)
                bar.console.print(f"{name:>{max(map(len, MODELS))}}  seed {seed}: {said}", soft_wrap=True)
    return results


def report(results, seeds):
    """Prints the table, and which differences from the tasks alone the seeds carry."""
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Accuracy in percent, {spread}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, result in results.items():
        table.add_row(name, *(mean_and_spread(result[column]) for column in COLUMNS))
    console.print(table)
    if len(seeds) < 3:
        return
    for name in (name for name in results if name != ALONE):
        words = []
        for column in COLUMNS:
            pair = results[name][column], results[ALONE][column]
            known = "told apart" if pairs_tell_apart(*pair, comparisons=len(COLUMNS)) else "not told apart"
            difference = np.subtract(*pair)
            words.append(f"{column} {mean_and_spread(difference, signed=True)} ({known})")
        console.print(f"{name} against {ALONE}, by pairs: {'; '.join(words)}")


def draw(results, path):
    """Each seed's accuracy with strangers over how well the probe tells the people apart."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, task in zip(axes, ("exercise", "side"), strict=True):
        for index, (name, result) in enumerate(results.items()):
            x, y = result["subject, probe"], result[task]
            axis.plot(x, y, ".", color=f"C{index}", alpha=0.5)
            axis.plot(np.mean(x), np.mean(y), "o", color=f"C{index}", markersize=9, label=name)
        axis.axvline(100 / CLASSES["subject"], color="black", linewidth=0.8, linestyle=":", label="chance")
        axis.set_xlabel("who it is, told by a probe from the trunk: accuracy in percent")
        axis.set_ylabel(f"{task} of strangers: accuracy in percent")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and two epochs: that it runs")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 20)")
    options = parser.parse_args()
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (2 if options.quick else 20)
    folder = output_folder("watch_subjects-quick" if options.quick else "watch_subjects")
    results = run(seeds, epochs, folder, watch.load())
    report(results, seeds)
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
