"""How much should the tasks share? A search, on a problem whose answer is known and on drawn faces.

planted: five regressions from 200 noisy examples read the same 4 of 40 directions of their inputs; each needs two
combinations of these four, of its own. Stages are 4 linear units, 2 units and 4 units. So one shared stage is right by
construction: with it everything can be represented and the directions are learned from all labels; a shared second
stage hands on two numbers where the tasks need four; and columns of their own each have to find the directions from
their own labels. With every seed, which draws the problem, 20 random trials look for the depth and the learning rate.

faces: skin, glasses and smile of drawn faces (recipes/data/faces.py), reduced to 32 x 32 points. The search is over
hard sharing, trees and cross-stitch columns. Every candidate has the same number of parameters, up to rounding: where
less is shared, the stages are narrower. It chooses by delta_m on the validation faces, against columns that share
nothing. What it found, all sharing and no sharing are then trained anew with several seeds, and tested once.

What it can show: whether search finds what was planted, and on faces whether the shape that it found beats both
extremes at one budget of parameters, epochs and learning rate. What it cannot: that it would with another budget, or
that a model found with one seed of the search is the best there is.

    python recipes/search_sharing.py [--quick] [--problems planted,faces] [--seeds 5] [--trials 20] [--workers 2]

Logs for TensorBoard (with HParams), the trials and pictures go to runs/search_sharing/.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, fitting_width, output_folder

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from data.faces import SIDE, SPLITS, faces
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track
from rich.table import Table

import keras_mtl
from keras_mtl import tuning

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

TRIALS = {"planted": 20, "faces": 15}
PLANTED = 1  # the depth that is right
TASKS, INPUTS, DIRECTIONS, UNITS, NOISE = 5, 40, 4, 2, 0.2
EXAMPLES = {"train": 200, "validation": 400}
STEPS = 300
FACES = {"skin": 7, "glasses": 2, "smile": 2}
PARAMETERS = 40_000
BATCH, EPOCHS = 64, 6


class TrialProgress(keras.callbacks.Callback):
    """Moves a progress bar by one with every trial."""

    def __init__(self, bar, row):
        super().__init__()
        self.bar, self.row = bar, row

    def __deepcopy__(self, memo):
        return self  # tuners copy callbacks, and a bar is one

    def on_train_end(self, logs=None):
        self.bar.advance(self.row)


def progress():
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def planted_data(seed):
    """Dict from split to inputs and labels; the training labels are noisy."""
    rng = np.random.default_rng(seed)
    count = sum(EXAMPLES.values())
    directions = np.linalg.qr(rng.normal(size=(INPUTS, DIRECTIONS)))[0]
    x = rng.normal(size=(count, INPUTS))
    labels = {}
    for task in (f"t{k}" for k in range(TASKS)):
        slopes = np.linalg.qr(rng.normal(size=(DIRECTIONS, UNITS)))[0]
        weights = rng.choice([-1, 1], size=(UNITS, 1)) * rng.uniform(0.7, 1.3, size=(UNITS, 1))
        y = np.tanh(2.0 * x @ directions @ slopes) @ weights
        labels[task] = (y - y.mean()) / y.std()
        labels[task][: EXAMPLES["train"]] += NOISE * rng.normal(size=(EXAMPLES["train"], 1))
    parts = {"train": slice(0, EXAMPLES["train"]), "validation": slice(EXAMPLES["train"], None)}
    return {split: (x[part], {t: y[part] for t, y in labels.items()}) for split, part in parts.items()}


def planted_tuner(seed, trials, folder):
    layers = keras.layers
    tasks = [f"t{k}" for k in range(TASKS)]
    hypermodel = tuning.SharingHyperModel(
        keras.Input((INPUTS,)),
        stages=[
            layers.Dense(DIRECTIONS, name="directions"),
            layers.Dense(UNITS, activation="tanh", name="units"),
            layers.Dense(4, activation="tanh", name="top"),
        ],
        heads={task: layers.Dense(1) for task in tasks},
        compile={"loss": "mse", "steps_per_execution": 20},
        training={"learning_rate": (3e-3, 3e-2)},
        seed=seed,
    )
    # Labels have variance 1, so 1 is the error of a constant.
    fair = tuning.objective(metrics=dict.fromkeys(tasks, "loss"), ranges={t: {"loss": (1.0, 0.0)} for t in tasks})
    return keras_tuner.RandomSearch(
        hypermodel, fair, max_trials=trials, seed=seed + 1, directory=folder, project_name=f"seed{seed}", overwrite=True
    )


def planted(seeds, trials, folder):
    """Searches with every seed. Returns a dict from seed to the completed trials as (depth, rate, score)."""
    found = {}
    with progress() as bar:
        row = bar.add_task("planted", total=len(seeds) * trials)
        for seed in seeds:
            data = planted_data(seed)
            tuner = planted_tuner(seed, trials, folder / "planted")
            examples = tf.data.Dataset.from_tensor_slices(data["train"]).cache()
            examples = examples.shuffle(EXAMPLES["train"], seed=seed).repeat().batch(50)
            options = {
                "steps_per_epoch": STEPS,
                "epochs": 1,
                "shuffle": False,
                "validation_data": data["validation"],
                "validation_batch_size": EXAMPLES["validation"],
            }
            if seed == seeds[0]:
                bar.console.print(f"Each seed: {tuning.estimate(tuner, examples, **options)}")
            board = keras.callbacks.TensorBoard(folder / "logs" / "planted" / f"seed{seed}", write_graph=False)
            tuner.search(examples, callbacks=[board, TrialProgress(bar, row)], verbose=0, **options)
            values = [(t.hyperparameters.values, t.score) for t in tuner.oracle.get_best_trials(trials)]
            found[seed] = [(v["hard_sharing/shared_depth"], v["learning_rate"], score) for v, score in values]
            bar.console.print(f"seed {seed}: the best of {len(values)} trials shares {found[seed][0][0]} of 3 stages")
    return found


def report_planted(found):
    table = Table(title="Best score of each depth (1 is perfect, 0 a constant)", title_justify="left")
    table.add_column("seed")
    for depth in range(4):
        table.add_column(f"{depth} shared" + (" (right)" if depth == PLANTED else ""), justify="right")
    table.add_column("found", justify="right")
    for seed, trials in found.items():
        best = {depth: max((s for d, _, s in trials if d == depth), default=None) for depth in range(4)}
        cells = ["not tried" if score is None else f"{score:.3f}" for score in best.values()]
        table.add_row(str(seed), *cells, str(trials[0][0]))
    console.print(table)
    right = sum(trials[0][0] == PLANTED for trials in found.values())
    console.print(f"The planted depth was found with {right} of {len(found)} seeds.")
    return right


def draw_planted(found, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 2.5 * len(found), 3.2), layout="constrained")
    for axis, (seed, trials) in zip(
        figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(), strict=True
    ):
        depths, rates, scores = map(np.array, zip(*trials, strict=True))
        dots = axis.scatter(depths, scores, c=np.log10(rates), cmap="viridis", s=22, vmin=-2.5, vmax=-1.5)
        axis.plot(depths[0], scores[0], "o", markersize=12, markeredgecolor="tab:red", color="none")
        axis.axvline(PLANTED, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(range(4))
        axis.set_xlabel("shared stages")
        axis.set_title(f"seed {seed}")
    figure.axes[0].set_ylabel("score on validation examples")
    figure.colorbar(dots, ax=figure.axes, label="log10 of the learning rate")
    figure.savefig(path, dpi=120)


def small_faces(quick):
    splits = {"train": 400, "validation": 100, "test": 100} if quick else SPLITS
    data = faces(FACES, splits, track=lambda s, total: track(s, "rendering faces, once", total, console=console))
    half = SIDE // 2

    def reduced(pictures):
        return pictures.reshape(len(pictures), half, 2, half, 2, 3).mean(axis=(2, 4))

    return {split: (reduced(pictures), labels) for split, (pictures, labels) in data.items()}


def face_sharing(hp):
    return tuning.sharing_space(hp, 4, FACES, families=["hard_sharing", "branched_sharing", "cross_stitch"])


def face_stages(width):
    layers = keras.layers
    convolutions = [
        [layers.Conv2D(max(1, round(width * n)), 3, padding="same", activation="relu"), layers.MaxPooling2D()]
        for n in (1, 2, 4)
    ]
    return [*convolutions, [layers.Flatten(), layers.Dense(max(1, round(8 * width)), activation="relu")]]


def face_heads():
    return {task: keras.layers.Dense(classes) for task, classes in FACES.items()}


def face_input():
    return keras.Input((SIDE // 2, SIDE // 2, 3))


def choice(depth):
    return tuning.SharingChoice("hard_sharing", {"shared_depth": depth})


WIDTHS: dict = {}


def width_of(chosen):
    """The width with which this way of sharing has about `PARAMETERS` parameters."""

    def count(width):
        return chosen.build(face_input(), face_stages(width), face_heads()).count_params()

    if (key := repr(chosen)) not in WIDTHS:
        WIDTHS[key] = fitting_width(count, PARAMETERS, 6.0, rounds=4)
    return WIDTHS[key]


def face_compile():
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": {task: ["accuracy"] for task in FACES},
        "optimizer": keras.optimizers.Adam(1e-3),
    }


def face_model(chosen):
    model = chosen.build(face_input(), face_stages(width_of(chosen)), face_heads())
    model.compile(**face_compile())
    return model


def face_tuner(baselines, trials, folder):
    hypermodel = tuning.SharingHyperModel(
        face_input(),
        stages=lambda hp: face_stages(width_of(face_sharing(hp))),
        heads=face_heads(),
        compile={**face_compile(), "delta_m": baselines},
        sharing=face_sharing,
        seed=0,
    )
    return keras_tuner.RandomSearch(
        hypermodel, tuning.objective(baselines), max_trials=trials, seed=2, directory=folder, project_name="faces"
    )


def face_baselines(data, epochs, folder):
    """Accuracies of columns that share nothing, kept in a file: a search that goes on does not train them again."""
    return keras_mtl.analysis.compare(
        {"all shared": lambda: face_model(choice(4))},
        data["train"],
        baselines=lambda: face_model(choice(0)),
        metrics=dict.fromkeys(FACES, "accuracy"),
        test=data["validation"],
        epochs=epochs,
        seeds=1,
        directory=folder / "baselines",
        batch_size=BATCH,
    ).baseline_means


def search_faces(data, epochs, trials, folder, workers, arguments):
    """The search, in this process or in those that this one starts."""
    baselines = face_baselines(data, epochs, folder)
    options = {"epochs": epochs, "batch_size": BATCH, "validation_data": data["validation"]}
    tuner = face_tuner(baselines, trials, folder)
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        console.print(f"Search: {tuning.estimate(tuner, *data['train'], **options)}")
        if workers:
            tuning.launch([sys.executable, __file__, *arguments], workers, logs=folder / "workers")
            tuner.oracle.reload()  # what the chief has left in the folder
            return tuner
    board = keras.callbacks.TensorBoard(folder / "logs" / "faces", write_graph=False)
    with progress() as bar:
        row = bar.add_task("faces", total=trials - len(getattr(tuner.oracle, "end_order", ())))
        tuner.search(*data["train"], callbacks=[board, TrialProgress(bar, row)], verbose=0, **options)
    return tuner


def report_faces(tuner, data, epochs, seeds, folder):
    front = tuning.pareto_front(tuner)
    front.print()
    front.plot(folder / "front.png")
    (best,) = tuner.get_best_hyperparameters()
    found = face_sharing(best)
    console.print(f"Found: {found.family}, {found.options}")
    report = keras_mtl.analysis.compare(
        {"found": lambda: face_model(found), "all shared": lambda: face_model(choice(4))},
        data["train"],
        baselines=lambda: face_model(choice(0)),
        metrics=dict.fromkeys(FACES, "accuracy"),
        test=data["test"],
        epochs=epochs,
        seeds=[100 + seed for seed in range(seeds)],  # none that the search has seen
        directory=folder / "tests" / f"trial_{front.trials[0]['trial']}",
        batch_size=BATCH,
    )
    report.print()
    report.plot(folder / "faces.png")
    report.to_json(folder / "faces.json")
    if not face_model(found).shared_variables:
        console.print("What was found shares nothing: it is the single-task models, and cannot beat them.")
        return
    gains = {name: report.delta_m(name) for name in ("found", "all shared")}
    beats = [own > 0 and own > other for own, other in zip(*gains.values(), strict=True)]
    console.print(
        f"What was found beats all sharing, and the mean of no sharing, with {sum(beats)} of {seeds} seeds; "
        f"models have {PARAMETERS:,} parameters, up to rounding."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few trials and faces, one seed and epoch: that it runs")
    parser.add_argument("--problems", default="planted,faces", help="some of: %(default)s (default: both)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5 planted problems, 3 tests on faces)")
    parser.add_argument("--trials", type=int, help="trials of each search (default: 20 planted, 15 faces)")
    parser.add_argument("--workers", type=int, default=0, help="search faces with a chief and so many workers")
    options = parser.parse_args()
    problems = options.problems.split(",")
    if unknown := [name for name in problems if name not in ("planted", "faces")]:
        parser.error(f"--problems takes some of: planted, faces. Received: {', '.join(unknown)}")
    trials = {name: options.trials or (4 if options.quick else TRIALS[name]) for name in problems}
    epochs = 1 if options.quick else EPOCHS
    name = "search_sharing-quick" if options.quick else "search_sharing"
    if "KERASTUNER_ORACLE_IP" in os.environ:  # one of the processes that another of this script started
        from pathlib import Path

        search_faces(small_faces(options.quick), epochs, trials["faces"], Path("runs") / name, 0, ())
        return

    folder = output_folder(name)
    if "planted" in problems:
        found = planted(range(options.seeds or (1 if options.quick else 5)), trials["planted"], folder)
        report_planted(found)
        draw_planted(found, folder / "planted.png")
    if "faces" in problems:
        data = small_faces(options.quick)
        tuner = search_faces(data, epochs, trials["faces"], folder, options.workers, sys.argv[1:])
        report_faces(tuner, data, epochs, options.seeds or (1 if options.quick else 3), folder)
    console.print(f"Pictures: {folder}/*.png", soft_wrap=True)
    console.print(f"Trials:   tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
