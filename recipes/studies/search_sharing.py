"""How much should the tasks share? A search, on a problem whose answer is known.

About a quarter of an hour on two cores, a minute with --quick; downloads nothing.

Five regressions from 200 noisy examples read the same 4 of 40 directions of their inputs; each needs two
combinations of these four, of its own. Stages are 4 linear units, 2 units and 4 units. So one shared stage is right by
construction: the directions are learned from all labels, and a shared second stage would hand on two numbers where the
tasks need four. With every seed, which draws the problem, 20 random trials look for the depth and the learning rate.

What it can show: whether search finds what was planted. What it cannot: that it finds what is best where nobody
planted anything (recipes/search_faces.py asks that).

    python recipes/studies/search_sharing.py [--quick] [--trials 20] [--seeds 5]
"""

import parent  # noqa: F401
from common import command_line, console, summarize

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from data.arrays import scaled, split_at
from search_faces import run_trials

from keras_mtl import tuning

PLANTED = 1  # the depth that is right
TASKS, INPUTS, DIRECTIONS, UNITS, NOISE = 5, 40, 4, 2, 0.2
EXAMPLES = {"train": 200, "validation": 400}
STEPS = 300


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


def main():
    options = command_line(__file__, __doc__, trials=(20, "of each seed's search; 4 under --quick"))
    found = planted(options.seeds, 4 if options.quick else options.trials, options.folder)
    depths = {f"{depth} shared" + " (right)" * (depth == PLANTED): depth for depth in range(4)}
    scores = {
        name: {"best": [max((s for d, _, s in of_seed if d == depth), default=np.nan) for of_seed in found.values()]}
        for name, depth in depths.items()
    }
    title = "Score of the best trial (1 is perfect, 0 a constant)"
    summarize(scores, options, {"best": "best score"}, title=title, digits=3)
    right = sum(of_seed[0][0] == PLANTED for of_seed in found.values())
    console.print(f"The planted depth was found with {right} of {len(found)} seeds.")


if __name__ == "__main__":
    main()
