"""Shown, watched, liked: the entire-space model of a funnel on MovieLens 100K.

Of the films that were shown to somebody some were watched, and of those some were liked. Whether a film would be liked
is known for the watched ones alone, but a recommender asks it of all films. Ways to train it are compared, on the same
inputs, layers and batches:

- single-task: a model for each task, `liked` on the watched films alone;
- sample space: embeddings shared by the tasks, `liked` on the watched films alone;
- ESMM: embeddings shared, and `liked` as P(watched) P(liked | watched), over all films that were shown;
- fed by output: as sample space, and the head of `liked` sees the probability of `watched` (no gradient goes back);
- MMoE, PLE, AdaTT, AITM, STEM, PEPNet: as sample space, with experts or towers of these kinds, and embeddings as narrow
  as makes their parameters those of ESMM.

The table shows areas under the ROC curve on everybody's last ratings, times 100: of `watched` and `liked` among the
films shown, and of P(liked | watched) among those watched.

What it can show: how much the entire space and shared embeddings do for the funnel on this data. What it cannot:
anything about real impressions, which are not on record here. For each film that was watched, four that the person
never rated are drawn, all films alike; so popular films are easily told apart as watched. Epochs and learning rate were
chosen with the validation rows of one seed for the single-task model, and the test rows choose nothing.

    python recipes/movielens.py [--quick] [--models ESMM,...] [--seeds 5] [--epochs 6]

Logs for TensorBoard and a picture of the results go to runs/movielens/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import (
    ProgressOfFit,
    area_under_roc,
    console,
    mean_and_spread,
    output_folder,
    pairs_tell_apart,
    progress,
)
from data import movielens
from rich import box
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

SINGLE, ESMM = "single-task", "ESMM"
# Builders of recommender systems, with the embeddings' width that gives each about as many parameters as ESMM.
BUILDERS = {
    "MMoE": (keras_mtl.mmoe, {"experts": 4, "shared_depth": 1}, 12),
    "PLE": (keras_mtl.ple, {"shared_experts": 1, "task_experts": 1, "shared_depth": 1}, 14),
    "AdaTT": (keras_mtl.adatt, {"task_experts": 2, "shared_depth": 1}, 12),
    "AITM": (keras_mtl.aitm, {}, 11),
    "STEM": (keras_mtl.stem, {}, 6),
    "PEPNet": (keras_mtl.pepnet, {}, 8),
}
MODELS = (SINGLE, "sample space", ESMM, "fed by output", *BUILDERS)
SCORES = {"watched": "watched", "liked": "liked", "liked_given_watched": "liked | watched"}
BATCH = 1024
LEARNING_RATE = 1e-3


def funnel_inputs(about):
    names = ("person", "film", "age", "gender", "occupation")
    return {
        **{name: keras.Input((), dtype="int32", name=name) for name in names},
        "about": keras.Input((about,), name="about"),
    }


def embeddings(sizes, about, width=16):
    """The stage that makes one vector of a person and a film."""
    layers = keras.layers
    inputs = funnel_inputs(about)
    vectors = [
        layers.Embedding(size, width, embeddings_regularizer=keras.regularizers.L2(1e-6), name=f"{name}_embedding")(
            inputs[name]
        )
        for name, size in sizes.items()
    ]
    return keras.Model(inputs, layers.Concatenate()([*vectors, inputs["about"]]), name="embeddings")


def build(name, sizes, about):
    """A model whose outputs are probabilities, but for `liked_given_watched` where there is no such output.

    Args:
        name: String. One of `MODELS`.
        sizes: Dict from code input to the number of codes.
        about: Integer. Number of the films' columns.
    """
    layers = keras.layers
    builder, own, width = BUILDERS.get(name, (None, {}, 16))
    stages = [embeddings(sizes, about, width), layers.Dense(64, activation="relu", name="tower")]
    end = None if name == ESMM else "sigmoid"
    heads = {
        task: [layers.Dense(32, activation="relu", name="hidden"), layers.Dense(1, activation=end, name="out")]
        for task in ("watched", "liked")
    }
    options = {"inputs": funnel_inputs(about), "stages": stages, "heads": heads}
    if name == ESMM:
        return keras_mtl.esmm(**options, shared_depth=1)
    if name == "PEPNet":  # who and what it is about
        about_both = funnel_inputs(about)
        known = [layers.Embedding(sizes[key], 4, name=f"{key}_prior")(about_both[key]) for key in ("person", "film")]
        own = {"prior": keras.Model(about_both, layers.Concatenate()(known), name="who_and_what")}
    if builder is not None:
        return builder(**options, **own)
    feeds = {"liked": keras_mtl.Dependency("watched", stop_gradient=True)} if name == "fed by output" else None
    return keras_mtl.hard_sharing(**options, shared_depth=0 if name == SINGLE else 1, depends_on=feeds)


def train(name, seed, data, sizes, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    model = build(name, sizes, inputs["about"].shape[1])
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=dict.fromkeys(("watched", "liked"), "binary_crossentropy"),
        sample_space=None if name == ESMM else {"liked": "watched"},
        steps_per_execution=16,
    )
    model.fit(inputs, labels, BATCH, epochs, validation_data=(*data["validation"],), callbacks=callbacks, verbose=0)
    return model


def probabilities(model, inputs):
    """P(watched), P(liked) and P(liked | watched) of every film that was shown."""
    p = model.predict(inputs, batch_size=8192, verbose=0)
    if "liked_given_watched" not in p:  # `liked` was trained on the watched ones
        p = {"watched": p["watched"], "liked": p["watched"] * p["liked"], "liked_given_watched": p["liked"]}
    return p


def test(model, data):
    """The areas of the table, in percent."""
    inputs, labels = data
    p = probabilities(model, inputs)
    watched = labels["watched"][:, 0] == 1
    rows = {"watched": slice(None), "liked": slice(None), "liked_given_watched": watched}
    truth = {"watched": labels["watched"], "liked": labels["liked"], "liked_given_watched": labels["liked"]}
    return {name: 100 * area_under_roc(truth[name][rows[name]], p[name][rows[name]]) for name in SCORES}


def run(names, seeds, epochs, folder, arrays):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    results = {name: {} for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            data = movielens.impressions(seed=seed, arrays=arrays)
            sizes = {"person": len(arrays["people"]), "film": len(arrays["films"])}
            sizes |= {
                name: int(arrays["people"][:, i].max()) + 1 for i, name in enumerate(("age", "gender", "occupation"))
            }
            for name in names:
                logs = folder / "logs" / name.replace(" ", "_") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                model = train(name, seed, data, sizes, epochs, callbacks)
                areas = test(model, data["test"])
                for key, value in areas.items():
                    results[name].setdefault(key, []).append(value)
                results[name]["parameters"] = model.count_params()
                said = ", ".join(f"{SCORES[key]} {area:.2f}" for key, area in areas.items())
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}")
    return results


def report(results, seeds):
    """Prints the table, and which differences the seeds carry."""
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Test AUC x 100, {spread}", title_justify="left", box=box.SIMPLE)
    table.add_column("model", no_wrap=True)
    for column in ("parameters", *SCORES.values()):
        table.add_column(column, justify="right")
    for name, result in results.items():
        table.add_row(name, f"{result['parameters']:,}", *(mean_and_spread(result[key], digits=2) for key in SCORES))
    console.print(table)
    if ESMM not in results or len(results) < 2 or len(seeds) < 3:
        console.print("Without ESMM, another model and 3 seeds, no difference in this table means anything.")
        return
    for name in results:
        if name != ESMM:
            pairs = {key: (results[ESMM][key], results[name][key]) for key in SCORES}
            differ = [key for key, pair in pairs.items() if pairs_tell_apart(*pair, comparisons=len(pairs))]
            words = [f"{SCORES[key]} {np.mean(np.subtract(*pairs[key])):+.2f}" for key in differ]
            console.print(f"ESMM against {name}, differences that these seeds carry: {', '.join(words) or 'none'}")


def draw(results, path):
    """A panel for each score: every seed's, and the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SCORES), figsize=(11, 3.2), sharey=True, layout="constrained")
    for axis, (key, title) in zip(axes, SCORES.items(), strict=True):
        for y, result in enumerate(results.values()):
            axis.plot(result[key], np.full(len(result[key]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
            axis.plot(np.mean(result[key]), y, "|", color="black", markersize=16)
        axis.set_yticks(range(len(results)), results)
        axis.set_xlabel("test AUC x 100")
        axis.set_title(
            title + (", of watched films" if key == "liked_given_watched" else ", of films shown"), fontsize=10
        )
        axis.locator_params(axis="x", nbins=5)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and epoch: that it runs")
    parser.add_argument("--models", default=",".join(MODELS), help="some of: %(default)s (default: all)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 6)")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise SystemExit(f"--models takes some of: {', '.join(MODELS)}. Received: {', '.join(unknown)}")
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (1 if options.quick else 6)

    folder = output_folder("movielens-quick" if options.quick else "movielens")
    results = run(names, seeds, epochs, folder, movielens.load())
    report(results, seeds)
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
