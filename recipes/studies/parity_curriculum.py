"""A curriculum of tasks: the parity of three bits before that of five, which is made of it.

About ten minutes on two cores, half a minute with --quick; downloads nothing.

Of thirty random bits one task is the parity of the first three, another that of the first five. Both share a trunk and
take turns, one task a step: the hard task alone, both from the start, the easy one first (released in order, then
both), or the hard one first, as a control. Counted are the steps until the hard task is right in 95 of 100 test
examples: all of them, and those of the hard task itself.

What it shows: whether the order saves steps where one task is part of the other. What it does not: that there is such
an order among tasks that are not made for it. The sizes were chosen so that the hard task takes thousands of steps.

    python recipes/studies/parity_curriculum.py [--quick] [--seeds 5] [--steps 6000] [--first 800]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, console, steps_until, study

import keras
import numpy as np
from active_sampling import fit_by_turns

from keras_mtl.data import Curriculum

BITS, TRAIN, TEST, EPOCH = 30, 20000, 2048, 100
EASY, HARD, ENOUGH = "three", "five", 0.95
ORDERS = ("hard alone", "both from the start", "easy first", "hard first")


def make_data(seed):
    """Examples of both tasks: dict from task to (x, y), for training and for testing."""
    rng = np.random.default_rng(seed)
    splits = {}, {}
    for task, size in ((EASY, 3), (HARD, 5)):
        for split, count in zip(splits, (TRAIN, TEST), strict=True):
            x = rng.choice([-1.0, 1.0], (count, BITS)).astype("float32")
            split[task] = x, (x[:, :size].prod(axis=1, keepdims=True) > 0).astype("float32")
    return splits


class StopWhenLearned(keras.callbacks.Callback):
    """Ends training once the hard task is right often enough."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = logs[f"val_{HARD}_accuracy"] >= ENOUGH


def main():
    options = command_line(
        __file__,
        __doc__,
        models=ORDERS,
        steps=(6000, "at most; 400 under --quick"),
        first=(800, "steps of the first task before both; 200 under --quick"),
    )
    steps, first = (400, 200) if options.quick else (options.steps, options.first)
    data_of = lru_cache(1)(make_data)

    def run(order, seed, callbacks):
        tasks = (HARD,) if order == "hard alone" else (EASY, HARD)
        sampler = "uniform"
        if order in ("easy first", "hard first"):
            sampler = Curriculum([EASY, HARD], epochs=first // EPOCH, reverse=order == "hard first")
        train, test = ({task: split[task] for task in tasks} for split in data_of(seed))
        callbacks = [*callbacks, StopWhenLearned()]
        logs = fit_by_turns(train, test, sampler, seed, EPOCH, steps // EPOCH, callbacks)
        needed = steps_until(curve := logs[f"val_{HARD}_accuracy"], ENOUGH, EPOCH)
        own = np.sum(logs[f"{HARD}_batches"])  # training has ended where it was learned
        return {"steps": min(needed, steps), "own": own, "learned": float(np.isfinite(needed)), "curve": curve}

    scores = {"steps": "all steps", "own": "of the hard task", "learned": "learned"}
    title = f"Steps until five bits are right in {ENOUGH:.0%} (a run that did not learn counts with its {steps:,})"
    digits = {"steps": 0, "own": 0, "learned": 1}
    how = {"along": {"curve": "five bits: test accuracy"}, "axes": {"xlabel": "steps", "every": EPOCH}}
    results = study(run, options, scores, title=title, digits=digits, **how)
    for order, found in results.items():
        console.print(f"{order}: learned with {sum(found['learned']):.0f} of {len(options.seeds)} seeds")


if __name__ == "__main__":
    main()
