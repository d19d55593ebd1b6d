"""How much should the tasks share? A search, on a problem whose answer is known and on drawn faces.

About half an hour on two cores, three minutes with --quick; downloads nothing, but draws 9,000 faces once.

planted: five regressions from 200 noisy examples read the same 4 of 40 directions of their inputs; each needs two
combinations of these four, of its own. Stages are 4 linear units, 2 units and 4 units. So one shared stage is right by
construction: the directions are learned from all labels, and a shared second stage would hand on two numbers where the
tasks need four. With every seed, which draws the problem, 20 random trials look for the depth and the learning rate.

faces: skin, glasses and smile of drawn faces, reduced to 32 x 32 points. The search is over hard sharing, trees and
cross-stitch columns, at one number of parameters, and goes on as in recipes/search_faces.py.

What it can show: whether search finds what was planted, and on faces whether the shape that it found beats both
extremes at one budget of parameters, epochs and learning rate. What it cannot: that it would with another budget, or
that a model found with one seed of the search is the best there is.

    python recipes/studies/search_sharing.py [--quick] [--problems planted,faces] [--trials 20] [--workers 2]
"""

import os
import sys

import parent  # noqa: F401
from common import command_line, console, convolutions, summarize

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from data.arrays import scaled, split_at
from data.faces import FEW, SPLITS, drawn_faces
from search_faces import BATCH, Candidates, baseline_means, run_trials, test_found

from keras_mtl import tuning

PLANTED = 1  # the depth that is right
TASKS, INPUTS, DIRECTIONS, UNITS, NOISE = 5, 40, 4, 2, 0.2
EXAMPLES = {"train": 200, "validation": 400}
STEPS = 300
FACES = {"skin": 7, "glasses": 2, "smile": 2}
METRICS = dict.fromkeys(FACES, "accuracy")
EPOCHS = 6


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
        labels[task] = scaled(y)
        labels[task][: EXAMPLES["train"]] += NOISE * rng.normal(size=(EXAMPLES["train"], 1))
    return dict(zip(EXAMPLES, split_at((x, labels), EXAMPLES["train"]), strict=True))


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
            console.print(f"Each seed: {tuning.estimate(tuner, examples, **options)}")
        run_trials(tuner, trials, folder / "logs" / f"planted-seed{seed}", [examples], **options)
        values = [(t.hyperparameters.values, t.score) for t in tuner.oracle.get_best_trials(trials)]
        found[seed] = [(v["hard_sharing/shared_depth"], v["learning_rate"], score) for v, score in values]
    return found


def face_sharing(hp):
    return tuning.sharing_space(hp, 4, FACES, families=["hard_sharing", "branched_sharing", "cross_stitch"])


def face_stages(width):
    filters = [max(1, round(width * n)) for n in (1, 2, 4)]
    return convolutions(*filters, units=max(1, round(8 * width)))


def face_heads():
    return {task: keras.layers.Dense(classes) for task, classes in FACES.items()}


def face_compile():
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": {task: ["accuracy"] for task in FACES},
        "optimizer": keras.optimizers.Adam(1e-3),
    }


FACE_MODELS = Candidates((32, 32, 3), face_stages, face_heads, face_compile, 40_000, 6.0, 4)


def face_tuner(baselines, trials, folder):
    how = {"max_trials": trials, "seed": 2, "directory": folder, "project_name": "faces"}
    hypermodel = FACE_MODELS.hypermodel(face_sharing, baselines, seed=0)
    return keras_tuner.RandomSearch(hypermodel, tuning.objective(baselines), **how)


def search_faces(data, epochs, trials, folder, workers, arguments):
    """The search, in this process or in those that this one starts."""
    baselines = baseline_means(FACE_MODELS, data, METRICS, folder, epochs)
    options = {"epochs": epochs, "batch_size": BATCH, "validation_data": data["validation"]}
    tuner = face_tuner(baselines, trials, folder)
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        console.print(f"Search: {tuning.estimate(tuner, *data['train'], **options)}")
        if workers:
            tuning.launch([sys.executable, __file__, *arguments], workers, logs=folder / "workers")
            tuner.oracle.reload()  # what the chief has left in the folder
            return tuner
    left = trials - len(getattr(tuner.oracle, "end_order", ()))
    run_trials(tuner, left, folder / "logs" / "faces", data["train"], **options)
    return tuner


def main():
    asked = {
        "problems": ("planted,faces", "one of them or both"),
        "trials": (0, "trials of each search; 0: 20 planted, 15 faces"),
        "workers": (0, "search faces with a chief and so many workers"),
    }
    started = "KERASTUNER_ORACLE_IP" in os.environ  # by another of this script, whose folder stays as it is
    options = command_line(__file__, __doc__, epochs=(EPOCHS, 1), fresh=not started, **asked)
    problems = "faces" if started else options.problems
    if "planted" in problems:
        found = planted(options.seeds, options.trials or (4 if options.quick else 20), options.folder)
        depths = {f"{depth} shared" + " (right)" * (depth == PLANTED): depth for depth in range(4)}
        scores = {
            name: {
                "best": [max((s for d, _, s in of_seed if d == depth), default=np.nan) for of_seed in found.values()]
            }
            for name, depth in depths.items()
        }
        title = "Score of the best trial (1 is perfect, 0 a constant)"
        summarize(scores, options, {"best": "best score"}, title=title, digits=3)
        right = sum(of_seed[0][0] == PLANTED for of_seed in found.values())
        console.print(f"The planted depth was found with {right} of {len(found)} seeds.")
    if "faces" in problems:
        data = drawn_faces(FACES, FEW if options.quick else SPLITS, side=32)
        trials = options.trials or (4 if options.quick else 15)
        tuner = search_faces(data, options.epochs, trials, options.folder, options.workers, sys.argv[1:])
        if started:
            return
        (best,) = tuner.get_best_hyperparameters()
        found = face_sharing(best)
        size = f"{FACE_MODELS.parameters:,} parameters, up to rounding"
        console.print(f"Found: {found.family}, {found.options}; models have {size}.")
        options.seeds = [100 + seed for seed in options.seeds]  # none that the search has seen
        test_found(found, FACE_MODELS, tuning.pareto_front(tuner), data, METRICS, options)


if __name__ == "__main__":
    main()
