"""Three tasks on two kinds of Chinese text: are reviews good or bad, where do words end, what parts of speech are they?

Reviews have a label each. Sentences from a newspaper have two labels for every character: its place in its word, and
the word's part of speech. No text has labels of both kinds, and sets and lengths differ. One trunk, an embedding of
characters and two convolutions, reads both; `keras_mtl.data.mix` brings the texts together, in joint batches or in
turns. Single-task models, a trunk for each task, get the same batches as the joint ones.

What it shows: a model with an input for each kind of text, trained from data sets of their own, and whether reviews
gain from the words of the newspaper. What it does not: state of the art; the trunk is small and trains for a short
time.

    python recipes/chinese_text.py [--quick] [--seeds 5] [--epochs 2] [--texts 10000]

The picture of the results and logs for TensorBoard go to runs/chinese_text/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, delta_m, mean_and_spread, output_folder, progress, seeds_tell_apart

import keras
import numpy as np
import tensorflow as tf
from data.chinese_text import BMES, NOT_LABELLED, load_text
from rich.table import Table

import keras_mtl
from keras_mtl.data import mix

TASKS = {"sentiment": "reviews", "segmentation": "words", "tags": "parts of speech"}
LENGTH, BATCH, WIDTH = 64, 64, 64
EMPTY = {"absent_rows": 1}  # convolutions
SINGLE = "single-task"
MIXES = {
    SINGLE: {},
    "shared, joint": {},
    "shared, in turns": {"sampler": "uniform"},
}


def trunk(size, name):
    """An embedding of characters and two convolutions."""
    layers = [keras.layers.Embedding(size, WIDTH)]
    layers += [keras.layers.Conv1D(WIDTH, 5, padding="same", activation="relu") for _ in range(2)]
    return keras.Sequential(layers, name=name)


def build(text, shared):
    """An input for each kind of text, and one trunk, or one for each task."""
    size = len(text.characters) + 2
    review, news = (keras.Input((LENGTH,), dtype="int32", name=name) for name in ("review", "news"))
    common_trunk = trunk(size, "trunk")
    features = {
        task: (common_trunk if shared else trunk(size, f"{task}_trunk"))(review if task == "sentiment" else news)
        for task in TASKS
    }
    outputs = {
        "sentiment": keras.layers.Dense(1)(keras.layers.GlobalMaxPooling1D()(features["sentiment"])),
        "segmentation": keras.layers.Dense(len(BMES))(features["segmentation"]),
        "tags": keras.layers.Dense(len(text.tags))(features["tags"]),
    }
    model = keras_mtl.MultiTaskModel({"review": review, "news": news}, outputs)
    by_character = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss={
            "sentiment": keras.losses.BinaryCrossentropy(from_logits=True),
            "segmentation": by_character,
            "tags": by_character,
        },
        metrics={
            "sentiment": [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
            "segmentation": ["accuracy"],
            "tags": ["accuracy"],
        },
        missing={"segmentation": NOT_LABELLED, "tags": NOT_LABELLED},
    )
    return model


def data_sets(text, split):
    """The two data sets of a split; that of the newspaper has labels of two tasks."""
    (reviews, positive), (news, labels) = text.reviews[split], text.news[split]
    return {
        "sentiment": tf.data.Dataset.from_tensor_slices(({"review": reviews}, {"sentiment": positive})),
        "segmentation": tf.data.Dataset.from_tensor_slices(({"news": news}, labels)),
    }


def train(name, text, seed, epochs, callbacks):
    """Trains one model; returns its test accuracies in percent and the steps of the two data sets."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(text, shared=name != SINGLE)
    shuffled = {task: d.shuffle(int(d.cardinality()), seed=seed) for task, d in data_sets(text, "train").items()}
    # In turns, a step is one batch; in joint batches it is one of each. All models see as many batches.
    both = "sampler" not in MIXES[name]
    batches = sum(-(-int(d.cardinality()) // BATCH) for d in shuffled.values())
    mixture = mix(shuffled, batch_size=BATCH, seed=seed, stop=batches // 2 if both else batches, **EMPTY, **MIXES[name])
    tested = mix(data_sets(text, "test"), batch_size=256, stop="once", **EMPTY)
    history = model.fit(mixture, epochs=epochs, callbacks=callbacks, verbose=0).history
    scores = model.evaluate(tested, verbose=0, return_dict=True)
    steps = {task: int(np.sum(history.get(f"{task}_batches", batches // 2 * epochs))) for task in shuffled}
    return {task: 100 * scores[f"{task}_accuracy"] for task in TASKS}, steps


def run(text_of, seeds, epochs, folder):
    """Accuracies and steps: name -> task -> list over seeds."""
    accuracies = {name: {task: [] for task in TASKS} for name in MIXES}
    steps = {name: [] for name in MIXES}
    with progress() as bar:
        row = bar.add_task("", total=len(MIXES) * len(seeds) * epochs)
        for seed in seeds:
            text = text_of(seed)
            for name in MIXES:
                callbacks = [ProgressOfFit(bar, row, f"seed {seed}, {name}")]
                if seed == seeds[0]:
                    callbacks.append(keras.callbacks.TensorBoard(folder / "logs" / name.replace(" ", "_")))
                found, taken = train(name, text, seed, epochs, callbacks)
                steps[name].append(taken)
                for task, accuracy in found.items():
                    accuracies[name][task].append(accuracy)
    return accuracies, steps


def report(accuracies, steps):
    """Prints accuracies and what sharing gained."""
    seeds = len(accuracies[SINGLE]["sentiment"])
    table = Table(title=f"Test accuracy, %, {seeds} seeds", title_justify="left")
    for column in ("model", *TASKS.values(), "delta_m, %", "steps: reviews / news"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, by_task in accuracies.items():
        cells = []
        for task, scores in by_task.items():
            apart = name != SINGLE and seeds > 1
            apart = apart and seeds_tell_apart(scores, accuracies[SINGLE][task], (len(MIXES) - 1) * len(TASKS))
            cells.append(mean_and_spread(scores, digits=2) + (" *" if apart else ""))
        gain = mean_and_spread(delta_m(by_task, accuracies[SINGLE]), digits=2, signed=True)
        mean = {task: np.mean([taken[task] for taken in steps[name]]) for task in steps[name][0]}
        table.add_row(name, *cells, gain, f"{mean['sentiment']:.0f} / {mean['segmentation']:.0f}")
    console.print(table)
    console.print(f"*: apart from {SINGLE} by Welch's test at 5 %, shared out over all comparisons.")


def draw(accuracies, path):
    """Dots of the accuracies, a panel for each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = figure.subplots(1, len(TASKS))
    names = list(accuracies)
    for axes, (task, title) in zip(panels, TASKS.items(), strict=True):
        for place, name in enumerate(names):
            scores = np.array(accuracies[name][task])
            axes.scatter(scores, np.full(len(scores), place), color="black" if name == SINGLE else f"C{place}", s=18)
            axes.plot([scores.mean()] * 2, [place - 0.25, place + 0.25], color="gray")
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
        axes.invert_yaxis()
        axes.set_title(f"{title}: test accuracy, %", fontsize="medium")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few texts, to see that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--texts", type=int, default=10000, help="how many reviews, and how many sentences")
    arguments = parser.parse_args()
    count = 600 if arguments.quick else arguments.texts
    seeds = range(1 if arguments.quick else arguments.seeds)
    folder = output_folder("chinese_text-quick" if arguments.quick else "chinese_text")
    accuracies, steps = run(
        lambda seed: load_text(LENGTH, count, seed), seeds, 1 if arguments.quick else arguments.epochs, folder
    )
    report(accuracies, steps)
    path = folder / "results.png"
    draw(accuracies, path)
    console.print(f"Picture: {path}; TensorBoard: {folder / 'logs'}")


if __name__ == "__main__":
    main()
