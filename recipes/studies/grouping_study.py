"""Which tasks belong together, where it is known: six regressions in two planted groups.

About an hour on two cores, two minutes with --quick; downloads nothing.

The tasks of a group depend on the same three features of the inputs, `s_i = tanh(w_i x)`, those of the other group on
three others, in directions at right angles to them. With "sums", task i is `s_i + s_(i+1)`, so tasks of a group are
correlated, and the trunk's last stage has just room for all features (6 units). With "products" it is `s_i * s_(i+1)`:
their labels are uncorrelated, and what they share is to be seen in training alone (12 units). Every measure of affinity
gets the same data and 600 steps (products: 1,200) for each network that it trains, and `group_tasks` chooses two groups
by it. Training all pairs of tasks takes most of the time by far: it has to be asked for, with `--models`.

What it can show: which measures find planted groups, and what each costs. What it cannot: that real tasks come in
groups as clear as these, or that groups found in this way train better (recipes/task_grouping.py asks that).

    python recipes/studies/grouping_study.py [--quick] [--data sums] [--models "look-ahead,all pairs"] [--seeds 5]
"""

import time
from functools import lru_cache

import parent  # noqa: F401
from common import command_line, console, study

import keras
import numpy as np
from data.arrays import scaled, split_at

import keras_mtl
from keras_mtl import analysis

GROUPS = (("a1", "a2", "a3"), ("b1", "b2", "b3"))
TASKS = [task for group in GROUPS for task in group]
INPUTS, EXAMPLES, BATCH, EVERY = 16, 2000, 64, 10
UNITS = {"sums": 6, "products": 12}
EPOCHS = {"sums": 19, "products": 38}  # of 32 steps
METHODS = {"look-ahead": "look_ahead", "cosine": "cosine"}
MEASURES = (*METHODS, "features", "labels", "all pairs")


def make_data(kind, seed):
    """Inputs, and labels of six tasks with mean 0, variance 1 and a tenth of noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES, INPUTS)).astype("float32")
    y = {}
    directions = np.linalg.qr(rng.normal(size=(INPUTS, 6)))[0]  # orthogonal: groups have nothing in common
    for group, of_group in zip(GROUPS, np.split(directions, 2, axis=1), strict=True):
        features = np.tanh(2 * x @ of_group)
        for i, task in enumerate(group):
            first, second = features[:, i], features[:, (i + 1) % 3]
            clean = scaled(first + second if kind == "sums" else first * second)
            y[task] = (clean + 0.1 * rng.normal(size=EXAMPLES)).astype("float32")[:, None]
    return x, y


def build(kind, tasks):
    layers = keras.layers
    model = keras_mtl.hard_sharing(
        inputs=keras.Input((INPUTS,)),
        stages=[layers.Dense(32, activation="tanh"), layers.Dense(UNITS[kind], activation="tanh")],
        heads={task: layers.Dense(1) for task in tasks},
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss="mse", steps_per_execution=EVERY)
    return model


def found(grouping):
    """Whether the groups are the planted ones."""
    return {frozenset(group) for group in grouping.groups} == {frozenset(group) for group in GROUPS}


def contrast(affinity):
    """Mean affinity within groups over the mean absolute one between them."""
    same = np.array([[any(a in g and b in g for g in GROUPS) for b in TASKS] for a in TASKS])
    within = affinity.values[same & ~np.eye(len(TASKS), dtype=bool)]
    return float(within.mean() / np.abs(affinity.values[~same]).mean())


class StepsClock(keras.callbacks.Callback):
    """CPU seconds of steps, without tracing: those from the second epoch on, as if the first were like them."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self._start = time.process_time()

    def on_train_end(self, logs=None):
        epochs = self.params["epochs"]
        self.seconds += (time.process_time() - self._start) * epochs / (epochs - 1)


def measured(kind, name, seed, epochs, clock):
    """What a measure says of one data set: affinities, or the scores of all pairs' networks."""
    x, y = make_data(kind, seed)
    options = {"epochs": epochs, "batch_size": BATCH, "callbacks": [clock], "progress": False}
    if name == "labels":
        return analysis.task_relations(y).association
    if name == "all pairs":
        train, validation = split_at((x, y), 1600)
        return analysis.measure_networks(
            lambda tasks: build(kind, tasks),
            train,
            validation=validation,
            metrics=dict.fromkeys(TASKS, "loss"),
            seeds=[seed],
            **{**options, "epochs": round(epochs * EXAMPLES / 1600)},
        )
    if name == "features":
        columns = analysis.build_groups([[task] for task in TASKS], lambda tasks: build(kind, tasks))
        return analysis.measure_affinity(columns, (x, y), method="representation", **options)
    return analysis.measure_affinity(build(kind, TASKS), (x, y), method=METHODS[name], every=EVERY, **options)


def timed(function, seed):
    """What a function of a clock gives, its CPU seconds, and those of steps alone."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    clock, start = StepsClock(), time.process_time()
    found = function(clock)
    return found, time.process_time() - start, clock.seconds


def main():
    data = (("both", *UNITS), "kind of tasks")
    options = command_line(__file__, __doc__, models=MEASURES, default=MEASURES[:4], data=data)
    kinds = {kind: kind for kind in UNITS if options.data in ("both", kind)}

    @lru_cache(1)
    def unwatched(kind, seed, epochs):
        """CPU seconds of training all six tasks in one network, and those of its steps."""
        x, y = make_data(kind, seed)
        how = {"batch_size": BATCH, "epochs": epochs, "verbose": 0}
        return timed(lambda clock: build(kind, TASKS).fit(x, y, callbacks=[clock], **how), seed)[1:]

    def run(name, seed, callbacks):
        kind, name = name
        epochs = 2 if options.quick else EPOCHS[kind]
        of_training = unwatched(kind, seed, epochs)
        scores, *cpu = timed(lambda clock: measured(kind, name, seed, epochs, clock), seed)
        pairs = isinstance(scores, list)
        chosen = analysis.group_tasks(scores, 2, method="higher_order" if pairs else "integer")
        if not pairs and seed == options.seeds[0]:
            scores.plot(options.folder / f"{kind}-{name}.png")
        times, in_steps = np.divide(cpu, of_training)
        clear = np.nan if pairs else contrast(scores)
        return {"found": found(chosen), "clear": clear, "times": times, "steps": in_steps, "seconds": cpu[0]}

    scores = {"found": "groups found", "clear": "within / |between|", "times": "of a training", "steps": "in steps"}
    how = {"digits": {"times": 2, "steps": 2}, "logs": False}
    study(run, options, scores, groups=kinds, title="two planted groups of three tasks", **how)
    console.print("'of a training': CPU time over that of training all six tasks in one network, unwatched")
    console.print("'in steps': the same without tracing, which takes most of the time where networks are so small")


if __name__ == "__main__":
    main()
