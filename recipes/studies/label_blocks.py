"""Fourteen binary tasks as one head or as fourteen, when few of their labels are known.

About a quarter of an hour on two cores, half a minute with --quick; the data come with the package river (see
requirements-data.txt).

Yeast genes have 14 groups of functions. Single training labels are taken away at random, from some groups more than
from others. A head for each group and one block, a head with a unit for each, see the same labels; in the block's loss
a group counts as often as it is known, in "block, balanced" each alike, by weights from `missing_report`. The table has
the mean area under the ROC curve on test genes, times 100.

What it can show: that a block does what separate heads do, and what it saves already with 14 tasks. What it cannot: how
good one can be on these data; nothing was tuned.

    python recipes/studies/label_blocks.py [--quick] [--known 1,0.3,0.1] [--seeds 5] [--epochs 30]
"""

import time
from functools import lru_cache

import parent  # noqa: F401
from common import area_under_roc, command_line, console, study

import keras
import numpy as np
from data import yeast

import keras_mtl

HEADS = "14 heads"
MODELS = (HEADS, "block", "block, balanced")
BATCH = 64
LEARNING_RATE = 2e-3


def build(name, width, labels):
    layers = keras.layers
    stages = [[layers.Dense(128, activation="relu", name="hidden"), layers.Dropout(0.3)]]
    if name == HEADS:
        heads = {f"group_{i}": layers.Dense(1, activation="sigmoid") for i in range(labels)}
    else:
        heads = {"groups": layers.Dense(labels, activation="sigmoid")}
    return keras_mtl.hard_sharing(keras.Input((width,)), stages, heads)


def targets(name, labels):
    """Labels and weights as the model takes them."""
    if name == HEADS:
        return {f"group_{i}": labels[:, i, None] for i in range(labels.shape[1])}, None
    if name == "block":
        return {"groups": labels}, None
    weights = keras_mtl.data.missing_report({"groups": labels}, missing="nan").label_weights("groups")
    return {"groups": labels}, {"groups": np.broadcast_to(weights, labels.shape)}


def main():
    known = ("1,0.3,0.1", "known part of the middle group's labels")
    options = command_line(__file__, __doc__, epochs=(30, 3), known=known)
    options.models = MODELS
    shares = [float(share) for share in options.known.split(",")]
    arrays = yeast.load()
    labels = yeast.yeast(min(shares), 0, arrays)["train"][1]
    console.print(str(keras_mtl.data.missing_report({"groups": labels}, missing="nan", batch_size=BATCH)))
    data_of = lru_cache(1)(lambda share, seed: yeast.yeast(share, seed, arrays))

    def run(name, seed, callbacks):
        share, name = name
        data = data_of(share, seed)
        inputs, labels = data["train"]
        model = build(name, inputs.shape[1], labels.shape[1])
        model.compile(keras.optimizers.Adam(LEARNING_RATE), loss="binary_crossentropy", missing="nan")
        y, weights = targets(name, labels)
        times = []
        clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.process_time()))
        how = {"sample_weight": weights, "callbacks": [*callbacks, clock], "verbose": 0}
        model.fit(inputs, y, BATCH, options.epochs, **how)

        inputs, labels = data["test"]
        p = model.predict(inputs, batch_size=1024, verbose=0)
        p = p["groups"] if "groups" in p else np.concatenate([p[f"group_{i}"] for i in range(labels.shape[1])], axis=1)
        areas = [100 * area_under_roc(labels[:, i], p[:, i]) for i in range(labels.shape[1])]
        # The first epoch, which traces, is left out.
        return {"AUC": np.mean(areas), "CPU": (times[-1] - times[0]) / max(len(times) - 1, 1)}

    groups = {share: f"{100 * share:g} % known of the middle group" for share in shares}
    how = {"reference": HEADS, "paired": True, "comparisons": len(shares), "gain": False, "digits": 2}
    scores = {"AUC": "mean of 14 groups"}
    results = study(run, options, scores, groups=groups, title="test AUC x 100", **how)
    seconds = (f"{n} {np.median([s for share in shares for s in results[share, n]['CPU']]):.2f}" for n in MODELS)
    console.print(f"CPU seconds of an epoch: {', '.join(seconds)}")


if __name__ == "__main__":
    main()
