"""Active sampling: four easy tasks and two hard ones take turns in one trunk, 2,500 steps in all.

About ten minutes on two cores, half a minute with --quick; downloads nothing.

Six classifications of ten normal numbers. Four are linear, two are the sign of a product (exclusive or), which no
linear function tells. One step trains one task. Samplers draw which: uniformly, or by how tasks are doing (A5C, UA4C
and EA4C of Sharma et al., dynamic task prioritization, loss ratios). Targets are 98 % of linear tasks, 95 % of the
others.

What it shows: how much sooner the hard tasks are learned when the easy ones, once they are known, get fewer steps, and
what that costs the easy ones. What it does not: the targets are known here; and with enough steps for all tasks there
is nothing to gain.

    python recipes/studies/active_sampling.py [--quick] [--seeds 5] [--steps 2500]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, report, steps_until, study

import keras
import numpy as np
import tensorflow as tf
from data.arrays import split_at
from scipy.stats import hmean

import keras_mtl
from keras_mtl.data import A5C, EA4C, UA4C

EASY, HARD = ("linear1", "linear2", "linear3", "linear4"), ("xor1", "xor2")
TASKS = EASY + HARD
TARGETS = {task: 0.98 if task in EASY else 0.95 for task in TASKS}
INPUTS, TRAIN, TEST, BATCH, EPOCHS = 10, 4000, 2000, 64, 10

SAMPLERS = {
    "uniform": lambda seed: "uniform",
    "A5C": lambda seed: A5C(TARGETS),
    "UA4C": lambda seed: UA4C(TARGETS),
    "EA4C": lambda seed: EA4C(TARGETS, seed=seed),
    "DTP": lambda seed: "dynamic_task_prioritization",
    "loss ratio": lambda seed: "loss_ratio",
}


def make_data(seed):
    """Examples of every task: dict from task to (x, y), for training and for testing."""
    rng = np.random.default_rng(seed)
    splits = {}, {}
    for task in TASKS:
        x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
        if task in EASY:
            score = x @ rng.normal(size=INPUTS)
        else:
            first, second = (0, 1) if task == "xor1" else (2, 3)
            score = x[:, first] * x[:, second]
        y = (score > 0).astype("float32")[:, None]
        splits[0][task], splits[1][task] = split_at((x, y), TRAIN)
    return splits


def fit_by_turns(train, test, sampler, seed, steps, epochs, callbacks):
    """Trains two shared layers, and an input and a head for each task, one task a step; gives the logs."""
    tasks, (x, _) = list(train), next(iter(test.values()))
    train, test = (
        {task: tf.data.Dataset.from_tensor_slices(pair) for task, pair in split.items()} for split in (train, test)
    )
    shuffled = {task: dataset.shuffle(len(dataset), seed=seed) for task, dataset in train.items()}
    how = {"batch": "interleave", "batch_size": BATCH, "stop": steps, "inputs": "own", "seed": seed}
    mixture = keras_mtl.data.mix(shuffled, sampler, **how)
    tested = keras_mtl.data.mix(test, batch_size=len(x), stop="once", inputs="own")

    stages = [keras.layers.Dense(64, activation="relu", name=name) for name in ("low", "high")]
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in tasks}
    model = keras_mtl.own_inputs(keras_mtl.hard_sharing(keras.Input(x.shape[1:]), stages, heads))
    model.compile("adam", loss="binary_crossentropy", metrics={task: ["accuracy"] for task in tasks})
    return model.fit(mixture, validation_data=tested, epochs=epochs, callbacks=callbacks, verbose=0).history


def quality(logs):
    """Harmonic mean of the accuracies over their targets, none above 1."""
    return hmean([min(logs[f"val_{task}_accuracy"][-1] / TARGETS[task], 1.0) for task in TASKS])


def steps_of(logs, tasks):
    """Mean number of steps of some tasks."""
    return np.mean([np.sum(logs[f"{task}_batches"]) for task in tasks])


def main():
    options = command_line(__file__, __doc__, models=SAMPLERS, steps=(2500, "of all tasks; 100 under --quick"))
    steps = 100 if options.quick else options.steps
    data_of = lru_cache(1)(make_data)

    def run(name, seed, callbacks):
        logs = fit_by_turns(*data_of(seed), SAMPLERS[name](seed), seed, steps // EPOCHS, EPOCHS, callbacks)
        easy, hard = (np.mean([logs[f"val_{t}_accuracy"] for t in tasks], axis=0) for tasks in (EASY, HARD))
        return {
            "linear": 100 * easy[-1],
            "exclusive or": 100 * hard[-1],
            "steps to 90 %": min(steps_until(hard, 0.9, steps // EPOCHS), steps),
            "quality": quality(logs),
            "steps, hard / easy": steps_of(logs, HARD) / steps_of(logs, EASY),
            "linear curve": easy,
            "hard curve": hard,
            "probability": np.sum([logs[f"{task}_probability"] for task in HARD], axis=0),
        }

    scores = ("linear", "exclusive or", "steps to 90 %")
    how = {"reference": "uniform", "lower": ("steps to 90 %",), "paired": True, "gain": False}
    title = "Test accuracy, %, and steps until that of exclusive or is 90 %"
    how |= {"axes": {"xlabel": "steps", "every": steps // EPOCHS}, "digits": {"steps to 90 %": 0}}
    along = {"linear curve": "linear tasks: test accuracy", "hard curve": "exclusive or: test accuracy"}
    along |= {"probability": "probability of a hard task"}
    results = study(run, options, scores, title=title, along=along, **how)
    more = ("quality", "steps, hard / easy")
    report(results, options, more, title="Harmonic quality, and who got the steps", digits=3)


if __name__ == "__main__":
    main()
