"""Fourteen binary tasks as one head or as fourteen, when few of their labels are known.

Yeast genes have 14 groups of functions, several at once. The recipe takes single training labels away at random, from
some groups more than from others, and trains the same trunk with a head for each group and with one block, a head with
a unit for each group. All see the same labels; in the block's loss a group counts as often as it is known, with
separate heads each group counts alike, and in "block, balanced" each group counts alike again, by weights from
`missing_report`. The table shows the mean over the groups of the area under the ROC curve on test genes, times 100, and
the CPU seconds of an epoch.

What it can show: that a block does what separate heads do, and what it saves already with 14 tasks. What it cannot: how
good one can be on these data; nothing was tuned.

    python recipes/label_blocks.py [--quick] [--known 1,0.3,0.1] [--seeds 5] [--epochs 30]

Logs for TensorBoard and a picture of the results go to runs/label_blocks/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import (
    ProgressOfFit,
    area_under_roc,
    console,
    mean_and_spread,
    output_folder,
    pairs_tell_apart,
    progress,
)

import keras
import numpy as np
import tensorflow as tf
from data import yeast
from rich import box
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

MODELS = ("14 heads", "block", "block, balanced")
BATCH = 64
LEARNING_RATE = 2e-3


def build(name, width, labels):
    layers = keras.layers
    stages = [[layers.Dense(128, activation="relu", name="hidden"), layers.Dropout(0.3)]]
    if name == MODELS[0]:
        heads = {f"group_{i}": layers.Dense(1, activation="sigmoid") for i in range(labels)}
    else:
        heads = {"groups": layers.Dense(labels, activation="sigmoid")}
    return keras_mtl.hard_sharing(keras.Input((width,)), stages, heads)


def targets(name, labels):
    """Labels and weights as the model takes them."""
    if name == MODELS[0]:
        return {f"group_{i}": labels[:, i, None] for i in range(labels.shape[1])}, None
    if name == "block":
        return {"groups": labels}, None
    weights = keras_mtl.data.missing_report({"groups": labels}, missing="nan").label_weights("groups")
    return {"groups": labels}, {"groups": np.broadcast_to(weights, labels.shape)}


def train(name, seed, data, epochs, callbacks):
    """Trains a model. Returns it and the CPU seconds of an epoch, the first one left out."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    model = build(name, inputs.shape[1], labels.shape[1])
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss="binary_crossentropy", missing="nan")
    y, weights = targets(name, labels)
    times = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.process_time()))
    callbacks = [*callbacks, clock]
    model.fit(inputs, y, BATCH, epochs, sample_weight=weights, callbacks=callbacks, verbose=0)
    return model, (times[-1] - times[0]) / max(len(times) - 1, 1)


def test(model, data):
    """Area under the ROC curve of every group, in percent."""
    inputs, labels = data
    p = model.predict(inputs, batch_size=1024, verbose=0)
    p = p["groups"] if "groups" in p else np.concatenate([p[f"group_{i}"] for i in range(labels.shape[1])], axis=1)
    return [100 * area_under_roc(labels[:, i], p[:, i]) for i in range(labels.shape[1])]


def run(shares, seeds, epochs, folder, arrays):
    """Trains and tests every model. Returns a dict from (share, model) to dict of lists."""
    results = {(share, name): {"area": [], "seconds": []} for share in shares for name in MODELS}
    with progress() as bar:
        row = bar.add_task("", total=len(results) * len(seeds) * epochs)
        for share in shares:
            for seed in seeds:
                data = yeast.yeast(share, seed, arrays)
                for name in MODELS:
                    logs = folder / "logs" / f"{share:g}" / name.replace(" ", "_").replace(",", "") / f"seed{seed}"
                    callbacks = [
                        ProgressOfFit(bar, row, f"{100 * share:g} % known, {name}, seed {seed}"),
                        keras.callbacks.TensorBoard(logs, write_graph=False),
                    ]
                    model, seconds = train(name, seed, data, epochs, callbacks)
                    results[share, name]["area"].append(np.mean(test(model, data["test"])))
                    results[share, name]["seconds"].append(seconds)
    return results


def report(results, shares, seeds):
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Test AUC x 100, mean of 14 groups; {spread}", title_justify="left", box=box.SIMPLE)
    table.add_column("known, middle group")
    for name in MODELS:
        table.add_column(name, justify="right")
    for share in shares:
        table.add_row(f"{100 * share:g} %", *(mean_and_spread(results[share, name]["area"], 2) for name in MODELS))
    table.add_section()
    seconds = [np.median([s for share in shares for s in results[share, name]["seconds"]]) for name in MODELS]
    table.add_row("CPU s an epoch", *(f"{s:.2f}" for s in seconds))
    console.print(table)
    if len(seeds) < 3:
        console.print("Without 3 seeds, no difference in this table means anything.")
        return
    for name in MODELS[1:]:
        pairs = {share: (results[share, name]["area"], results[share, MODELS[0]]["area"]) for share in shares}
        differ = [share for share, pair in pairs.items() if pairs_tell_apart(*pair, comparisons=len(pairs))]
        words = [f"{100 * share:g} % known ({np.mean(np.subtract(*pairs[share])):+.2f})" for share in differ]
        console.print(f"{name} against {MODELS[0]}, differences that these seeds carry: {', '.join(words) or 'none'}")


def draw(results, shares, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for place, name in enumerate(MODELS):
        x = np.arange(len(shares)) + 0.15 * (place - 1)
        values = [results[share, name]["area"] for share in shares]
        for at, found in zip(x, values, strict=True):
            axis.plot(np.full(len(found), at), found, "o", color=f"C{place}", alpha=0.5, markersize=4)
        axis.plot(x, [np.mean(found) for found in values], "_", color=f"C{place}", markersize=14, label=name)
    axis.set_xticks(range(len(shares)), [f"{100 * share:g} %" for share in shares])
    axis.set_xlabel("training labels known of the middle group")
    axis.set_ylabel("test AUC x 100, mean of 14 groups")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and three epochs: that it runs")
    parser.add_argument("--known", default="1,0.3,0.1", help="known part of the middle group (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 30)")
    options = parser.parse_args()
    shares = [float(share) for share in options.known.split(",")]
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (3 if options.quick else 30)

    folder = output_folder("label_blocks-quick" if options.quick else "label_blocks")
    arrays = yeast.load()
    labels = yeast.yeast(min(shares), 0, arrays)["train"][1]
    console.print(str(keras_mtl.data.missing_report({"groups": labels}, missing="nan", batch_size=BATCH)))
    results = run(shares, seeds, epochs, folder, arrays)
    report(results, shares, seeds)
    draw(results, shares, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
