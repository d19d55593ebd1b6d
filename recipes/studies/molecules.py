"""Twelve properties of molecules whose scales go from 0.02 to 280: which weightings cope.

About twenty minutes on two cores, half a minute with --quick; the data come with the package qm9pack (see
requirements-data.txt) and take 10 seconds or so to read the first time.

One trunk learns all twelve of QM9, with the mean squared error in each property's own unit, so the tasks' losses differ
by a factor of 10⁸ in the beginning. Only the losses do: every head ends with a layer that multiplies by the property's
standard deviation and adds its mean. One trunk on standardized properties needs no balance and says what could be had;
`--models all` adds a column for each task. Inputs are numbers of atoms and counts of pieces of the SMILES text.

What it can show: which weightings make up for scales, from their default settings, within a few epochs. What it cannot:
how good they would be if they were tuned, or trained for longer; "uncertainty x 100" learns its weights 100 times as
fast as the model its own.

    python recipes/studies/molecules.py [--quick] [--models equal,mgda] [--seeds 5] [--epochs 8]
"""

import time
from functools import lru_cache

import parent  # noqa: F401
from common import SINGLE, command_line, console, study

import keras
import numpy as np
from data import qm9

import keras_mtl

BATCH = 256
LEARNING_RATE = 1e-3
HIDDEN = [128, 128]
STANDARDIZED = "standardized"
MODELS = {  # what `compile` gets
    SINGLE: {},
    STANDARDIZED: {},
    "equal": {},
    "uncertainty": {"weighting": "uncertainty"},
    "uncertainty x 100": {"weighting": "uncertainty"},
    **{name: {"weighting": name} for name in ("dwa", "scale_invariant", "geometric", "famo", "imtl_l", "stch")},
    **{name: {"weighting": name, "gradients": "features"} for name in ("mgda", "imtl_g", "aligned", "nash")},
}
DEFAULT = [name for name in MODELS if name not in (SINGLE, "geometric", "imtl_l", "stch", "nash")]


def build(name, width, scales):
    """A trunk or columns, and heads that answer in the properties' units; scales are means and standard deviations."""
    layers = keras.layers
    units = {task: (1.0, 0.0) if name == STANDARDIZED else (scale, mean) for task, (mean, scale) in scales.items()}
    return keras_mtl.hard_sharing(
        inputs=keras.Input((width,)),
        stages=[layers.Dense(units, activation="relu", name=f"hidden_{i}") for i, units in enumerate(HIDDEN)],
        heads={
            task: [layers.Dense(1, name="out"), layers.Rescaling(*unit, name="unit")] for task, unit in units.items()
        },
        shared_depth=0 if name == SINGLE else None,
    )


def test(model, name, data, scales):
    """R² of every property, times 100."""
    inputs, labels = data
    answers = model.predict(inputs, batch_size=4096, verbose=0)
    found = {}
    for task, y in labels.items():
        answer = answers[task].astype("float64")
        if name == STANDARDIZED:
            answer = answer * scales[task][1] + scales[task][0]
        found[task] = 100 * (1 - np.mean((answer - y) ** 2) / np.var(y))
    return found


def main():
    options = command_line(
        __file__,
        __doc__,
        models=MODELS,
        default=DEFAULT,
        quick_models=[STANDARDIZED, "uncertainty x 100", "mgda"],
        epochs=(8, 2),
    )
    rows = {"train": 2000, "test": 1000} if options.quick else {"train": 10_000, "test": 5_000}
    with console.status("Reading the tables (10 seconds or so the first time)"):
        arrays = qm9.load()
    data_of = lru_cache(1)(lambda seed: qm9.qm9(rows, seed=seed, arrays=arrays))  # a seed draws the molecules too

    def run(name, seed, callbacks):
        data = data_of(seed)
        scales = {task: (float(y.mean()), float(y.std())) for task, y in data["train"][1].items()}
        inputs, labels = data["train"]
        if name == STANDARDIZED:
            labels = {task: (y - scales[task][0]) / scales[task][1] for task, y in labels.items()}
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, options.epochs * -(-len(inputs) // BATCH))
        optimizer = keras.optimizers.Adam(rate)
        if name == "uncertainty x 100":
            fast = keras.optimizers.Adam(100 * LEARNING_RATE)
            optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer, {".*log_var.*": fast}))
        start = time.process_time()
        model = build(name, inputs.shape[1], scales)
        model.compile(optimizer=optimizer, loss="mse", steps_per_execution=16, **MODELS[name])
        labels = {task: y.astype("float32") for task, y in labels.items()}
        model.fit(inputs, labels, BATCH, options.epochs, callbacks=callbacks, verbose=0)
        seconds = time.process_time() - start  # of the CPU
        found = test(model, name, data["test"], scales)
        return {"mean of 12": np.mean(list(found.values())), **found, "seconds": seconds}

    deviation = dict(zip(qm9.TASKS, arrays["properties"].std(axis=0), strict=True))
    titles = {task: f"{task}, sd {deviation[task]:.2g}" for task in sorted(qm9.TASKS, key=deviation.get)}
    study(run, options, {"mean of 12": "mean of 12", **titles}, title="Test R² x 100")


if __name__ == "__main__":
    main()
