"""Exercises of people whom the model has never seen: does it help to forget who is who?

About a quarter of an hour on two cores, two minutes with --quick; the data come with the package seglearn (see
requirements-data.txt).

A smart watch sees seven shoulder exercises, done with either arm by ten people, two of whom are held out. The network
learns exercise and side from the other eight; with the subject as one more task; or with it behind a gradient reversal
layer, whose strength grows to 1 or 3 (Ganin et al., 2016): the trunk unlearns what tells the people apart. How much of
that is left is measured by a fresh network on the trunk's features; chance is 12.5 %.

What it can show: whether the trunk forgets, and whether that helps with strangers, over seeds that hold out each person
once. What it cannot: much about people in general, of whom there are ten.

    python recipes/studies/watch_subjects.py [--quick] [--seeds 5] [--epochs 20]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, start_again, study

import keras
import numpy as np
import tensorflow as tf
from data import watch

import keras_mtl

ALONE = "tasks alone"
MODELS = {ALONE: None, "subject as a task": 0.0, "adversary 1": 1.0, "adversary 3": 3.0}
CLASSES = {"exercise": watch.EXERCISES, "side": 2, "subject": watch.SUBJECTS - watch.HELD_OUT}
COLUMNS = {
    "exercise": "exercise, strangers",
    "side": "side, strangers",
    "exercise, seen": "exercise, seen people",
    "subject, probe": "subject, probe",
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
    """Trains a compiled model from the weights of a fresh one."""
    start_again(model, fresh.get_weights())
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


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(20, 2))
    arrays = watch.load()
    data_of = lru_cache(1)(lambda seed: watch.watch(seed, arrays))
    probe = compiled(build_probe(), options.epochs)
    model_of = lru_cache(None)(lambda strength: compiled(build(strength), options.epochs))

    def run(name, seed, callbacks):
        strength, data = MODELS[name], data_of(seed)
        model = model_of(strength)
        if strength:
            callbacks = [*callbacks, GrowingStrength(strength, options.epochs * STEPS // AT_ONCE)]
        keras.utils.set_random_seed(seed)
        x, labels = data["train"]
        labels = {task: labels[task] for task in model.tasks}
        train(model, build(strength), x, labels, options.epochs, seed, callbacks)
        return test(model, probe, seed, data, options.epochs)

    how = {"reference": ALONE, "paired": True, "comparisons": len(COLUMNS), "gain": False}
    study(run, options, COLUMNS, title="Accuracy in percent", **how)


if __name__ == "__main__":
    main()
