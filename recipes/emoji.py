"""Emoji by their looks, by their names, and by both: does a second modality help?

Two tasks for each of 1,372 emoji: which of 8 groups, and which of the subgroups that have ten emoji or more (those of
smaller ones have no label). A picture of 20 x 20 pixels goes through convolutions, the name's letter trigrams through a
dense layer; stages that take both make one vector of them. `inputs` is a dict of the modalities, and the first stage
takes it as it is. Models of one modality have the same layers without the other's.

What it shows: what each modality is worth alone and beside the other, on emoji never seen. What it does not: names and
groups were given by the same people.

    python recipes/emoji.py [--quick] [--seeds 5] [--epochs 12]

The pictures and logs for TensorBoard go to runs/emoji/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
from common import ProgressOfFit, console, mean_and_spread, output_folder, pairs_tell_apart, progress
from data import emoji
from keras import layers
from rich.table import Table

import keras_mtl
from keras_mtl.retrieval import hashed_trigrams

TRIGRAMS, SIZE = 600, 20
TASKS = ("group", "subgroup")
MODELS = {"picture": ("picture",), "name": ("name",), "picture and name": ("picture", "name")}
BOTH = "picture and name"


def make_data(table, seed):
    """Training and test data, each `(x, y)`: a fifth of the emoji is for testing."""
    order = np.random.default_rng(seed).permutation(len(table["names"]))
    x = {"picture": table["pictures"], "name": hashed_trigrams(list(table["names"]), TRIGRAMS)}
    y = {task: table[task][:, None] for task in TASKS}
    cut = len(order) // 5
    return tuple(
        ({k: v[rows] for k, v in x.items()}, {k: v[rows] for k, v in y.items()}) for rows in (order[cut:], order[:cut])
    )


def see(picture):
    """Layers for a picture."""
    for filters in (16, 32, 64):
        picture = layers.Conv2D(filters, 3, padding="same", activation="relu")(picture)
        picture = layers.MaxPooling2D()(picture)
    return layers.Dense(64, activation="relu")(layers.Flatten()(picture))


def read(name):
    """Layers for a name's trigrams."""
    return layers.Dense(64, activation="relu")(name)


def build(modalities, classes):
    """The model of some modalities: a stage that takes them, one that takes what they give, and two heads."""
    shapes, through = {"picture": (SIZE, SIZE, 3), "name": (TRIGRAMS,)}, {"picture": see, "name": read}
    inputs = {modality: keras.Input(shapes[modality], name=modality) for modality in modalities}
    features = [through[modality](tensor) for modality, tensor in inputs.items()]
    joined = layers.Concatenate()(features) if len(features) > 1 else features[0]
    return keras_mtl.hard_sharing(
        {modality: keras.Input(shapes[modality], name=modality) for modality in modalities},
        [keras.Model(inputs, joined, name="senses"), [layers.Dropout(0.3), layers.Dense(64, activation="relu")]],
        {task: layers.Dense(count) for task, count in classes.items()},
    )


def train(name, table, seed, epochs, callbacks=()):
    """Trains one model: the model, and its test accuracies in percent."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    (x, y), (test_x, test_y) = make_data(table, seed)
    modalities = MODELS[name]
    model = build(modalities, {task: len(table[f"{task}s"]) for task in TASKS})
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics={task: ["accuracy"] for task in TASKS},
        missing={"subgroup": emoji.NOT_LABELLED},
        jit_compile=False,
    )
    model.fit({m: x[m] for m in modalities}, y, batch_size=64, epochs=epochs, callbacks=list(callbacks), verbose=0)
    logs = model.evaluate({m: test_x[m] for m in modalities}, test_y, batch_size=512, verbose=0, return_dict=True)
    return model, {task: 100 * logs[f"{task}_accuracy"] for task in TASKS}


def report(accuracies, sizes):
    """Prints accuracies; a star where a model is apart from that of both modalities over the same splits."""
    seeds = len(accuracies[BOTH]["group"])
    table = Table(title=f"Right on new emoji, %, {seeds} seeds", title_justify="left")
    for column in ("model", "parameters", *TASKS):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, by_task in accuracies.items():
        cells = []
        for task, scores in by_task.items():
            tested = name != BOTH and seeds > 2
            apart = tested and pairs_tell_apart(scores, accuracies[BOTH][task], (len(MODELS) - 1) * len(TASKS))
            cells.append(mean_and_spread(scores) + (" *" if apart else ""))
        table.add_row(name, f"{sizes[name]:,}", *cells)
    console.print(table)
    console.print(f"*: apart from '{BOTH}' by a paired t-test at 5 %, shared out over all comparisons.")


def draw(accuracies, path):
    """Dots of the accuracies, a panel for each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    panels = figure.subplots(1, len(TASKS))
    for axes, task in zip(panels, TASKS, strict=True):
        for place, by_task in enumerate(accuracies.values()):
            scores = np.array(by_task[task])
            axes.scatter(scores, np.full(len(scores), place), color=f"C{place}", s=18)
            axes.plot([scores.mean()] * 2, [place - 0.25, place + 0.25], color="gray")
        axes.set_yticks(range(len(accuracies)), list(accuracies) if axes is panels[0] else [""] * len(accuracies))
        axes.invert_yaxis()
        axes.set_title(f"{task}: test accuracy, %", fontsize="medium")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    seeds, epochs = (range(1), 1) if options.quick else (range(options.seeds), options.epochs)
    folder = output_folder("emoji-quick" if options.quick else "emoji")
    table = emoji.load(SIZE)
    labelled = int((table["subgroup"] != emoji.NOT_LABELLED).sum())
    share = 100 * np.bincount(table["group"]).max() / len(table["group"])
    console.print(
        f"{len(table['names']):,} emoji in {len(table['groups'])} groups, the largest with {share:.1f} %; "
        f"{labelled:,} in {len(table['subgroups'])} subgroups"
    )
    accuracies, sizes = {name: {task: [] for task in TASKS} for name in MODELS}, {}
    with progress() as bar:
        row = bar.add_task("", total=len(seeds) * len(MODELS) * epochs)
        for seed in seeds:
            for name in MODELS:
                callbacks = [ProgressOfFit(bar, row, f"{name}, seed {seed}")]
                if seed == seeds[0]:
                    callbacks.append(keras.callbacks.TensorBoard(folder / "logs" / name.replace(" ", "_")))
                model, found = train(name, table, seed, epochs, callbacks)
                sizes[name] = model.count_params()
                for task, accuracy in found.items():
                    accuracies[name][task].append(accuracy)
                if name == BOTH and seed == seeds[0]:
                    keras_mtl.plot_sharing(model, folder / "sharing.png")
    report(accuracies, sizes)
    draw(accuracies, folder / "results.png")
    console.print(f"Pictures: {folder}; logs: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
