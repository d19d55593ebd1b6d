"""From 2,000 labels of the digits 0 to 4 to a few labels of 5 to 9: what is a trained trunk worth?

A network learns to tell the digits 0 to 4. Then comes a task with few labels, the digits 5 to 9, which the network has
never seen:

    from scratch    the same layers with fresh weights
    frozen trunk    a new head on the trained trunk, nothing else is trained (`add_task(..., freeze="all")`)
    fine-tuned      the new head and the trunk are trained
    falling rates   the same, with rates that fall by half from stage to stage towards the inputs

All take 200 steps of 32 pictures. A control tells how well the network still knows the digits 0 to 4 afterwards, whose
head nobody has touched.

What it can show: how many labels a trunk of a related task is worth, over seeds that draw pictures and weights. What it
cannot: that this holds for tasks that have less in common, or with more steps.

    python recipes/transfer_digits.py [--quick] [--seeds 5] [--steps 200]

A picture goes to runs/transfer_digits/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import console, mean_and_spread, output_folder, pairs_tell_apart
from data.digits import load_digits
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

OLD, NEW = "low_digits", "high_digits"
SCRATCH, FROZEN, FALLING = "from scratch", "frozen trunk", "falling rates"
ARMS = (SCRATCH, FROZEN, "fine-tuned", FALLING)
LABELS = (10, 50, 250)
MANY, TEST_OLD, TEST_NEW = 2000, 500, 1000
RATE, BATCH, AT_ONCE = 2e-3, 32, 10


def split(images, classes, seed):
    """Pictures and classes from 0 to 4 for each part; those with labels of the new task have each class as often."""
    rng = np.random.default_rng(seed)
    low, high = (rng.permutation(np.flatnonzero(mask)) for mask in (classes < 5, classes >= 5))
    pool = high[TEST_NEW:]
    by_class = [pool[classes[pool] == digit] for digit in range(5, 10)]
    rows = {"many": low[:MANY], "test old": low[MANY : MANY + TEST_OLD], "test new": high[:TEST_NEW]}
    rows |= {count: np.concatenate([of_one[: count // 5] for of_one in by_class]) for count in LABELS}
    return {part: (images[chosen, :, :, None], classes[chosen] % 5) for part, chosen in rows.items()}


def build():
    """The network of the old task."""
    layers = keras.layers
    return keras_mtl.hard_sharing(
        keras.Input((28, 28, 1)),
        stages=[
            [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(32, activation="relu")],
        ],
        heads={OLD: layers.Dense(5)},
    )


def extend(arm=None):
    """A network with the new head, of which an arm's part is to be trained."""
    model = build()
    model.get_layer(OLD).trainable = False
    return model.add_task(NEW, keras.layers.Dense(5), at="shared_stage_3", freeze="all" if arm == FROZEN else None)


def compiled(model, task, falling=False):
    optimizer = keras.optimizers.Adam(RATE)
    model.compile(
        keras_mtl.models.discriminative_rates(model, optimizer, factor=0.5) if falling else optimizer,
        loss={task: keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        steps_per_execution=AT_ONCE,
    )
    return model


def fit(model, x, y, steps, seed):
    """Trains with an optimizer that knows nothing of earlier trainings: what was traced for one serves the next."""
    parts = getattr(model.optimizer, "optimizers", [model.optimizer])
    for one in parts:
        for variable in (v for v in one.variables if v is not one.learning_rate):
            variable.assign(np.zeros(variable.shape))
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).repeat().batch(BATCH)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)


def accuracy(model, task, x, y):
    return 100 * np.mean(model.predict(x, batch_size=500, verbose=0)[task].argmax(axis=1) == y)


def run(seeds, images, classes, steps):
    """Trains and tests every arm with every seed and number of labels.

    Returns:
        Tuple of accuracies in percent, lists by task, arm and number of labels; of the old task before that; and
        whether a frozen trunk left the old task's outputs as they were, bit for bit.
    """
    models = {arm: compiled(extend(arm), NEW, falling=arm == FALLING) for arm in ARMS[1:]}
    models[SCRATCH] = models["fine-tuned"]  # what differs are the weights at the start
    first = compiled(build(), OLD)
    found = {task: {arm: {count: [] for count in LABELS} for arm in ARMS} for task in (NEW, OLD)}
    before, same = [], True
    for seed in track(seeds, "training", console=console):
        data = split(images, classes, seed)
        keras.utils.set_random_seed(seed)
        first.set_weights(build().get_weights())
        fit(first, data["many"][0], {OLD: data["many"][1]}, 3 * steps, seed)
        before.append(accuracy(first, OLD, *data["test old"]))
        said = first.predict(data["test old"][0], batch_size=500, verbose=0)[OLD]
        for count in LABELS:
            fresh = extend()
            for arm in ARMS:
                model = models[arm]
                model.set_weights(fresh.get_weights())
                if arm != SCRATCH:
                    for layer in (layer for layer in first.layers if layer.weights):
                        model.get_layer(layer.name).set_weights(layer.get_weights())
                fit(model, data[count][0], {NEW: data[count][1]}, steps, seed)
                found[NEW][arm][count].append(accuracy(model, NEW, *data["test new"]))
                found[OLD][arm][count].append(accuracy(model, OLD, *data["test old"]))
                if arm == FROZEN:
                    now = model.predict(data["test old"][0], batch_size=500, verbose=0)[OLD]
                    same &= np.array_equal(said, now)
    return found, before, same


def report(found, before, same, seeds):
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    for task, title in ((NEW, "Digits 5 to 9"), (OLD, "Digits 0 to 4, afterwards")):
        table = Table(
            title=f"{title}: test accuracy in percent, {spread}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        table.add_column("labels of 5 to 9", no_wrap=True)
        for count in LABELS:
            table.add_column(str(count), justify="right", no_wrap=True)
        for arm in ARMS if task == NEW else ARMS[1:]:
            table.add_row(arm, *(mean_and_spread(found[task][arm][count]) for count in LABELS))
        console.print(table)
    console.print(
        f"Digits 0 to 4 before: {mean_and_spread(before)}. "
        f"With a frozen trunk their outputs are {'the same bit for bit' if same else 'NOT the same'}."
    )
    if len(seeds) < 3:
        return
    for arm in ARMS[1:]:
        words = []
        for count in LABELS:
            pair = found[NEW][arm][count], found[NEW][SCRATCH][count]
            known = "told apart" if pairs_tell_apart(*pair, comparisons=len(LABELS)) else "not told apart"
            words.append(f"{count} labels {mean_and_spread(np.subtract(*pair), signed=True)} ({known})")
        console.print(f"{arm} against {SCRATCH}, by pairs: {', '.join(words)}")


def draw(found, before, path):
    """Accuracy over the number of labels, for both tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, task in ((left, NEW), (right, OLD)):
        for index, arm in enumerate(ARMS):
            if task == OLD and arm == SCRATCH:
                continue
            values = np.array([found[task][arm][count] for count in LABELS])
            axis.plot(LABELS, values.mean(axis=1), "o-", color=f"C{index}", label=arm)
            axis.fill_between(LABELS, values.min(axis=1), values.max(axis=1), color=f"C{index}", alpha=0.12)
        axis.set_xscale("log")
        axis.set_xticks(LABELS, [str(count) for count in LABELS])
        axis.minorticks_off()
        axis.set_xlabel("labels of the digits 5 to 9; mean and range over seeds")
        axis.grid(alpha=0.3)
    right.axhline(np.mean(before), color="black", linewidth=0.8, linestyle=":", label="before")
    left.set_ylabel("digits 5 to 9: test accuracy in percent")
    right.set_ylabel("digits 0 to 4, afterwards: test accuracy in percent")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and 20 steps: that it runs")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--steps", type=int, help="steps of each training (default: 200)")
    options = parser.parse_args()
    seeds = range(options.seeds or (1 if options.quick else 5))
    steps = options.steps or (20 if options.quick else 200)
    folder = output_folder("transfer_digits-quick" if options.quick else "transfer_digits")
    found, before, same = run(seeds, *load_digits(), steps)
    report(found, before, same, seeds)
    draw(found, before, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)


if __name__ == "__main__":
    main()
