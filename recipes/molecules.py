"""Twelve properties of molecules whose scales go from 0.02 to 280: which weightings cope.

QM9 has energies of orbitals around 0.02 hartree and spatial extents around 280 bohr². One trunk learns all twelve, with
the mean squared error in each property's own unit, so the tasks' losses differ by a factor of 10⁸ in the beginning.
Only the losses do: every head ends with a layer that multiplies by the property's standard deviation and adds its mean.
Whatever balance there is has to come from the weighting. One trunk on standardized properties needs none and says what
could be had; `--all` adds a column for each task.

Inputs are numbers of atoms and counts of the pieces of one to three characters of the SMILES text, so no model here is
good chemistry. The table shows the share of the variance explained on test molecules (R², times 100), the mean of the
twelve and some single ones; the picture shows all.

What it can show: which weightings make up for scales, from their default settings, within a few epochs. What it cannot:
how good they would be if they were tuned, or trained for longer. Weightings that learn by small steps have a long way
to go from one weight to 10⁸ times as much; "uncertainty x 100" learns its weights 100 times as fast as the model its
own.

    python recipes/molecules.py [--quick] [--models equal,mgda] [--all] [--seeds 5] [--epochs 8]

Logs for TensorBoard and a picture of the results go to runs/molecules/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, progress

import keras
import numpy as np
import tensorflow as tf
from data import qm9
from rich import box
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

BATCH = 256
LEARNING_RATE = 1e-3
HIDDEN = [128, 128]
SINGLE, STANDARDIZED = "single-task", "standardized"
# What sets the task weights, and where task gradients are taken.
MODELS = {
    SINGLE: {},
    STANDARDIZED: {},
    "equal": {},
    "uncertainty": {"weighting": "uncertainty"},
    "uncertainty x 100": {"weighting": "uncertainty"},
    "dwa": {"weighting": "dwa"},
    "scale_invariant": {"weighting": "scale_invariant"},
    "geometric": {"weighting": "geometric"},
    "famo": {"weighting": "famo"},
    "imtl_l": {"weighting": "imtl_l"},
    "stch": {"weighting": "stch"},
    "mgda": {"weighting": "mgda", "gradients": "features"},
    "imtl_g": {"weighting": "imtl_g", "gradients": "features"},
    "aligned": {"weighting": "aligned", "gradients": "features"},
    "nash": {"weighting": "nash", "gradients": "features"},
}
DEFAULT = [name for name in MODELS if name not in (SINGLE, "geometric", "imtl_l", "stch", "nash")]
SHOWN = ("mu", "homo", "lumo", "r2", "u0", "cv")  # of the table


def build(name, width, scales):
    """A trunk of two layers, or a column of them for each task, and heads that answer in the properties' units.

    Args:
        name: String. A key of `MODELS`.
        width: Integer. Number of input columns.
        scales: Dict from property to its mean and standard deviation.
    """
    layers = keras.layers
    heads = {
        task: [
            layers.Dense(1, name="out"),
            layers.Rescaling(1.0, 0.0, name="unit")
            if name == STANDARDIZED
            else layers.Rescaling(scale, mean, name="unit"),
        ]
        for task, (mean, scale) in scales.items()
    }
    return keras_mtl.hard_sharing(
        inputs=keras.Input((width,)),
        stages=[layers.Dense(units, activation="relu", name=f"hidden_{i}") for i, units in enumerate(HIDDEN)],
        heads=heads,
        shared_depth=0 if name == SINGLE else None,
    )


def train(name, seed, data, scales, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    if name == STANDARDIZED:
        labels = {task: (y - scales[task][0]) / scales[task][1] for task, y in labels.items()}
    model = build(name, inputs.shape[1], scales)
    steps = epochs * -(-len(inputs) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    if name == "uncertainty x 100":
        fast = keras.optimizers.Adam(100 * LEARNING_RATE)
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer, {".*log_var.*": fast}))
    model.compile(
        optimizer=optimizer,
        loss="mse",
        steps_per_execution=16,
        **MODELS[name],
    )
    labels = {task: y.astype("float32") for task, y in labels.items()}
    model.fit(inputs, labels, BATCH, epochs, callbacks=callbacks, verbose=0)
    return model


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


def run(names, seeds, epochs, rows, folder, arrays):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    results = {name: {} for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            data = qm9.qm9(rows, seed=seed, arrays=arrays)
            scales = {task: (float(y.mean()), float(y.std())) for task, y in data["train"][1].items()}
            for name in names:
                logs = folder / "logs" / name.replace(" ", "_") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                start = time.process_time()
                model = train(name, seed, data, scales, epochs, callbacks)
                results[name].setdefault("seconds", []).append(time.process_time() - start)
                for task, score in test(model, name, data["test"], scales).items():
                    results[name].setdefault(task, []).append(score)
                scores = {task: results[name][task][-1] for task in qm9.TASKS}
                worst = min(scores, key=scores.get)
                said = f"mean {np.mean(list(scores.values())):.1f}, worst {worst} {scores[worst]:.1f}"
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}")
    return results


def means(result):
    """Mean over the properties, one for each seed."""
    return np.mean([result[task] for task in qm9.TASKS], axis=0)


def report(results, seeds, scales_of):
    """Prints the table, best mean first."""
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Test R² x 100, {spread}", title_justify="left", box=box.SIMPLE)
    table.add_column("weighting", no_wrap=True)
    table.add_column("mean of 12", justify="right", no_wrap=True)
    for task in SHOWN:
        table.add_column(f"{task}\n{scales_of[task]:.2g}", justify="right")
    table.add_column("CPU s", justify="right")
    for name in sorted(results, key=lambda name: -means(results[name]).mean()):
        cells = [f"{np.mean(results[name][task]):.1f}" for task in SHOWN]
        table.add_row(name, mean_and_spread(means(results[name])), *cells, f"{np.mean(results[name]['seconds']):.0f}")
    console.print(table)
    console.print("Below each property: its standard deviation, in its own unit. Single columns are means.")


def draw(results, scales_of, path):
    """R² of every property, from the smallest scale to the largest, under every weighting."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = sorted(qm9.TASKS, key=scales_of.get)
    names = sorted(results, key=lambda name: -means(results[name]).mean())
    values = np.array([[np.mean(results[name][task]) for task in tasks] for name in names])
    figure, axis = plt.subplots(figsize=(10, 1.2 + 0.4 * len(names)), layout="constrained")
    image = axis.imshow(np.clip(values, 0, 100), cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axis.set_xticks(range(len(tasks)), [f"{task}\n{scales_of[task]:.2g}" for task in tasks])
    axis.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(values):
        text = f"{value:.0f}" if value > -100 else "<-100"
        axis.text(j, i, text, ha="center", va="center", fontsize=8, color="black" if value > 60 else "white")
    axis.set_title("Test R² x 100 by property, its standard deviation below", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 molecules, one seed, two epochs: that it runs")
    parser.add_argument("--models", help=f"some of: {','.join(MODELS)} (default: all but five of them)")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 8)")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else list(MODELS) if options.all else DEFAULT
    if unknown := [name for name in names if name not in MODELS]:
        raise SystemExit(f"--models takes some of: {', '.join(MODELS)}. Received: {', '.join(unknown)}")
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (2 if options.quick else 8)
    rows = {"train": 2000, "test": 1000} if options.quick else {"train": 10_000, "test": 5_000}

    folder = output_folder("molecules-quick" if options.quick else "molecules")
    with console.status("Reading the tables (10 seconds or so the first time)"):
        arrays = qm9.load()
    results = run(names, seeds, epochs, rows, folder, arrays)
    scales_of = dict(zip(qm9.TASKS, arrays["properties"].std(axis=0), strict=True))
    report(results, seeds, scales_of)
    draw(results, scales_of, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
