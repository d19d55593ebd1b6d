"""Landmarks of faces with four auxiliary tasks: does it help to stop each one when it has had its time?

About half an hour on two cores, a minute with --quick; downloads nothing.

TCDCN (Zhang et al., ECCV 2014) finds five landmarks of a face and, beside it, tells pose, gender, glasses and smile.
Auxiliary tasks are stopped one by one, by a rule of trend and generalization gap. Here it is on 300 small generated
faces, half of them partly hidden, beside a patience of 10 epochs (`TaskEarlyStopping`), an end at a quarter of the
epochs (`WeightSchedule`), all tasks to the end, and landmarks alone. The score is the mean distance of the landmarks to
the truth on 1,500 test faces, in units of the distance between the eyes.

What it can show: whether the rule stops the tasks at a sensible time, and whether that helps the main task here. What
it cannot: the paper's gain on photographs, nor a small one: 5 seeds of one set of 300 faces, at a constant rate and
with the last epoch's weights, tell differences below some 10 % from nothing. `--decay`, `--best` (weights of the best
validation epoch) and `--draw` (faces of each seed's own) with `--seeds 10` make a stronger study. The threshold depends
on the data: 0.2 was chosen on the validation faces with a seed of its own; with 50 none stops in 80 epochs.

    python recipes/studies/task_wise_stopping.py [--quick] [--seeds 5] [--epochs 80] [--thresholds 0.2,50]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, report, study

import keras
import numpy as np
from data.generated_faces import ATTRIBUTES, SIDE, generated_faces

from keras_mtl import callbacks, hard_sharing

ALONE, ALL, PATIENCE, QUARTER = "landmarks alone", "all tasks", "patience", "none after 1/4"
BATCH = 32
WINDOW = 5
# Chosen on the validation faces, with a seed of its own: with 5 in place of 50, four tasks are far worse than one.
WEIGHTS = {"landmarks": 50.0, **dict.fromkeys(ATTRIBUTES, 0.3)}


@keras.saving.register_keras_serializable()
def absolute_tanh(x):
    return keras.ops.abs(keras.ops.tanh(x))


def build(tasks, rate=1e-3):
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
        keras.optimizers.Adam(rate),
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


def main():
    options = command_line(
        __file__,
        __doc__,
        epochs=(80, 8),
        thresholds=("0.2", "of TCDCN's rule"),
        decay=(False, "a learning rate that falls to 0"),
        best=(False, "weights of the epoch that is best on the validation faces"),
        draw=(False, "every seed draws its faces"),
    )
    rules = [f"TCDCN's rule, {threshold}" for threshold in options.thresholds.split(",")]
    options.models = [ALONE, ALL, *rules, PATIENCE, QUARTER]
    sizes = {"train": 300, "validation": 300, "test": 300 if options.quick else 1500}

    @lru_cache(1)
    def data_of(draw):
        return {split: generated_faces(size, (draw, i)) for i, (split, size) in enumerate(sizes.items())}

    def run(name, seed, watching):
        data = data_of(seed if options.draw else 0)
        tasks = ("landmarks",) if name == ALONE else ("landmarks", *ATTRIBUTES)
        parts = {split: (x, {task: y[task] for task in tasks}) for split, (x, y) in data.items()}
        steps = options.epochs * -(-sizes["train"] // BATCH)
        model = build(tasks, keras.optimizers.schedules.CosineDecay(1e-3, steps) if options.decay else 1e-3)
        stopping = stopping_of(name, options.epochs)
        if stopping:
            watching = [stopping, *watching]
        if options.best:
            path = options.folder / "best.weights.h5"
            kept = {"monitor": "val_landmarks_loss", "mode": "min", "save_best_only": True, "save_weights_only": True}
            watching = [*watching, keras.callbacks.ModelCheckpoint(path, **kept)]
        history = model.fit(
            *parts["train"],
            batch_size=BATCH,
            epochs=options.epochs,
            validation_data=parts["validation"],
            validation_batch_size=500,
            callbacks=watching,
            verbose=0,
        )
        if options.best:
            model.load_weights(path)
        stopped = {task: epoch + 1 for task, epoch in getattr(stopping, "stopped", {}).items()}
        curve = history.history["val_landmarks_loss"]
        return {"error": 100 * error(model, parts["test"]), "stopped": stopped, "curve": curve}

    how = {"title": "Mean error on the test faces, % of the eyes' distance", "lower": True, "digits": 2}
    curve = {"along": {"curve": "validation loss of the landmarks"}, "axes": {"yscale": "log"}}
    results = study(run, options, ["error"], reference=ALONE, **how, **curve)
    report({name: results[name] for name in results if name != ALONE}, options, ["error"], reference=ALL, **how)
    for name, found in results.items():
        epochs = [epoch for of_seed in found["stopped"] for epoch in of_seed.values()]
        never = len(options.seeds) * len(ATTRIBUTES) - len(epochs)
        if epochs:
            print(f"{name}: auxiliary tasks stop after epoch {min(epochs)} to {max(epochs)}; {never} never")


if __name__ == "__main__":
    main()
