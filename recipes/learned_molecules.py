"""Learned sharing on twelve properties of molecules, at equal numbers of parameters.

QM9's properties, standardized, of 3,000 molecules (inputs as in molecules.py). Three methods learn on thin networks
what to share; what they find is trained anew, as wide as the budget of parameters allows, and so are hard sharing and
a column for each property:

- `branch_by_affinity` and `learning_to_branch` find trees of two stages;
- `adashare` finds which of three residual blocks each property runs.

What it shows: mean absolute error on test molecules, each seed with molecules and initial weights of its own. What it
does not: what learning to share costs, which comes on top; nor which price of a branch or sparsity is best: they were
chosen once, with a seed that is not in the table.

    python recipes/learned_molecules.py [--quick] [--seeds 5] [--epochs 20]

Pictures and logs for TensorBoard go to runs/learned_molecules/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import console, delta_m, mean_and_spread, output_folder, pairs_tell_apart, progress
from data import qm9
from keras import layers
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

PARAMETERS = 29_000
ROWS = {"train": 3000, "validation": 1000, "test": 5000}
THIN, PRICE, BRANCHES, BLOCKS, SPARSITY = 16, 0.03, 3, 3, 0.02
TREE, DRAWN, POLICY = "tree by affinity", "tree by drawn parents", "policy"
SINGLE, HARD, ALL_BLOCKS = "a column for each", "hard sharing", "hard sharing, blocks"
MODELS = (SINGLE, HARD, TREE, DRAWN, ALL_BLOCKS, POLICY)


def make_data(seed, rows):
    """Dict from split to `(x, y)`; properties are standardized by the training molecules."""
    splits = qm9.qm9(rows, width=200, seed=seed)
    scales = {task: (y.mean(), y.std()) for task, y in splits["train"][1].items()}
    return {
        split: (x, {task: ((y[task] - mean) / std).astype("float32") for task, (mean, std) in scales.items()})
        for split, (x, y) in splits.items()
    }


def stages(width):
    return [layers.Dense(width, activation="relu", name=f"hidden_{i}") for i in range(2)]


def blocks(width):
    residual = [layers.Dense(width, activation="relu", name=f"block_{i}") for i in range(BLOCKS)]
    return [layers.Dense(width, activation="relu", name="stem"), *residual]


def heads():
    return {task: layers.Dense(1) for task in qm9.TASKS}


def fit(model, data, epochs, callbacks=()):
    model.compile(keras.optimizers.Adam(2e-3), loss="mae", jit_compile=False, steps_per_execution=8)
    model.fit(*data, batch_size=64, epochs=epochs, callbacks=list(callbacks), verbose=0)


def learn(name, data, epochs, picture=None):
    """What a method finds on a thin network, or what a row is given: a tree, or a policy."""
    tasks = list(qm9.TASKS)
    inputs = keras.Input(data["train"][0].shape[1:])
    if name == TREE:
        return keras_mtl.learned.branch_by_affinity(
            inputs,
            stages(THIN),
            heads(),
            train=lambda model: fit(model, data["train"], epochs // 3),
            validation_data=data["validation"],
            branch_cost=PRICE,
            picture=picture,
        )[1]
    if name == DRAWN:
        steps = epochs * -(-len(data["train"][0]) // 64)
        model = keras_mtl.learned.learning_to_branch(
            inputs, stages(THIN), heads(), num_branches=BRANCHES, warmup_steps=steps // 10, decay=0.05 ** (1 / steps)
        )
        fit(model, data["train"], epochs)
        return keras_mtl.learned.branches_of(model)
    if name == POLICY:
        half = len(data["train"][0]) // 2
        first, second = (
            (data["train"][0][part], {task: y[part] for task, y in data["train"][1].items()})
            for part in (np.s_[:half], np.s_[half:])
        )
        steps = epochs * -(-half // 64)
        model = keras_mtl.learned.adashare(
            inputs,
            blocks(THIN),
            heads(),
            sparsity=SPARSITY,
            sharing=0.005,
            form="code",
            warmup_steps=steps // 4,
            decay=0.05 ** (1 / steps),
        )
        model.compile(keras.optimizers.Adam(2e-3), loss="mae", jit_compile=False, steps_per_execution=8)
        keras_mtl.learned.fit_policy(
            model, first, second, epochs=epochs, policy_optimizer=keras.optimizers.Adam(0.03), verbose=0
        )
        return keras_mtl.learned.policy_of(model)
    if name == ALL_BLOCKS:
        return {task: [True] * BLOCKS for task in tasks}
    return [[tasks] if name == HARD else [[task] for task in tasks]] * 2


def build(found, size, width):
    """The model of a tree or a policy."""
    inputs = keras.Input((size,))
    if isinstance(found, dict):
        return keras_mtl.learned.adashare(inputs, blocks(width), heads(), policy=found)
    return keras_mtl.branched_sharing(inputs, stages(width), heads(), branches=found)


def width_of(found, size):
    """The width whose number of parameters, which grows with its square, is closest to the budget."""
    few = [build(found, size, width).count_params() for width in (1, 2, 3)]
    counts = np.polyval(np.polyfit((1, 2, 3), few, 2), np.arange(1, 513))
    return int(np.abs(counts - PARAMETERS).argmin()) + 1


def described(found):
    """A tree's groups at both stages, or how many properties run each block."""
    if isinstance(found, dict):
        return "properties that run each block: " + ", ".join(str(n) for n in np.sum(list(found.values()), axis=0))
    return "; ".join(f"{len(groups)} branches of " + ", ".join("+".join(group) for group in groups) for groups in found)


def run(name, seed, data, epochs, folder):
    """Learns what to share, trains it anew: `(parameters, dict from property to mean absolute error)`."""
    keras.utils.set_random_seed(seed)
    found = learn(name, data, epochs, str(folder / "tree.png") if name == TREE else None)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    size = data["train"][0].shape[1]
    model = build(found, size, width_of(found, size))
    logs = folder / "logs" / name.replace(" ", "_").replace(",", "") / f"seed{seed}"
    fit(model, data["train"], epochs, [keras.callbacks.TensorBoard(logs, write_graph=False)])
    tested = model.evaluate(*data["test"], batch_size=1000, verbose=0, return_dict=True)
    errors = {task: tested[f"{task}_loss"] for task in model.tasks}
    learned = f" ({described(found)})" if name in (TREE, DRAWN, POLICY) else ""
    console.print(f"seed {seed}, {name}: {np.mean(list(errors.values())):.3f}{learned}", soft_wrap=True)
    return model.count_params(), errors


def report(results, seeds):
    """The table, and what the seeds tell apart."""
    table = Table(title=f"Mean absolute error x 100, {len(seeds)} seeds", title_justify="left")
    for column in (
        "sharing",
        "parameters",
        "mean of 12",
        "delta_m, %",
        "below a column each, pairs",
        "below hard sharing",
    ):
        table.add_column(column, justify="left" if column == "sharing" else "right")
    errors = {
        name: {task: np.array([found[task] for _, found in runs]) for task in qm9.TASKS}
        for name, runs in results.items()
    }
    means = {name: 100 * np.mean(list(by_task.values()), axis=0) for name, by_task in errors.items()}
    for name, runs in results.items():
        other = ALL_BLOCKS if name == POLICY else HARD
        sizes = [size for size, _ in runs]
        counts = f"{min(sizes):,}" + (f" to {max(sizes):,}" if min(sizes) != max(sizes) else "")
        cells = [counts, mean_and_spread(means[name])]
        cells.append(mean_and_spread(delta_m(errors[name], errors[SINGLE], qm9.TASKS), signed=True))
        for reference, asked in ((SINGLE, name != SINGLE), (other, name in (TREE, DRAWN, POLICY))):
            gain = means[reference] - means[name]
            sure = len(seeds) > 2 and pairs_tell_apart(means[reference], means[name], 8) if asked else False
            cells.append(mean_and_spread(gain, signed=True) + ("" if sure else " (noise)") if asked else "")
        table.add_row(name, *cells)
    console.print(table)
    console.print("The policy is compared with hard sharing of the same blocks.")
    return means


def draw(means, path):
    """Mean error of each model and seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axis = figure.subplots()
    for values in zip(*means.values(), strict=True):
        axis.plot(values, ".-", color="C0", alpha=0.3)
    axis.plot([values.mean() for values in means.values()], "ko")
    axis.set_xticks(range(len(means)), [name.replace(" by ", "\nby ").replace(", ", ",\n") for name in means])
    axis.set_ylabel("mean absolute error x 100\n(black: means; blue: seeds)")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="300 molecules, one seed, three epochs: that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    epochs = 3 if options.quick else options.epochs
    rows = dict.fromkeys(ROWS, 300) if options.quick else ROWS
    folder = output_folder("learned_molecules-quick" if options.quick else "learned_molecules")
    results = {name: [] for name in MODELS}
    with progress("models") as bar:
        row = bar.add_task("", total=len(seeds) * len(MODELS))
        for seed in seeds:
            data = make_data(seed, rows)
            for name in MODELS:
                bar.update(row, description=f"seed {seed}, {name}")
                keras.utils.clear_session()
                results[name].append(run(name, seed, data, epochs, folder))
                bar.advance(row)
    draw(report(results, seeds), folder / "results.png")
    console.print(f"Pictures: {folder}; logs: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
