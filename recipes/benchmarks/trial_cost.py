"""What a trial of a search costs beside its training: tracing, and what a search for small machines leaves out.

Small models are searched at random over the shared depth, the learning rate and static weights, with and without what
`keras_mtl.tuning.budget_search` does: traced models used again for trials of their structure, and garbage collections
that pass over what was there before. The number is CPU time for each trial, the median over trials, so that other jobs
on the machine count little. The first trials of a structure are traced in every case and count too.

    python recipes/benchmarks/trial_cost.py [--trials 24] [--epochs 3]
"""

import contextlib
import tempfile
import time
import typing

from shared import options_of, print_table

import keras
import keras_tuner
import numpy as np

from keras_mtl import tuning
from keras_mtl.tuning.budget import quick_collections

TASKS = ("a", "b", "c")


def hypermodel(reuse, weighting):
    return tuning.SharingHyperModel(
        keras.Input((20,)),
        [keras.layers.Dense(32, activation="relu") for _ in range(3)],
        {task: keras.layers.Dense(1) for task in TASKS},
        compile={"loss": "mse"},
        weighting={"methods": [weighting], "static": (0.1, 10.0)},
        seed=0,
        reuse=reuse,
    )


class Clock(keras.callbacks.Callback):
    """CPU time from one trial's end to the next one's."""

    times: typing.ClassVar = []  # tuners copy callbacks

    def on_train_end(self, logs=None):
        self.times.append(time.process_time())


def seconds(reuse, frozen, weighting, trials, epochs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 20)).astype("float32")
    y = dict.fromkeys(TASKS, x[:, :1])
    Clock.times[:] = [time.process_time()]
    with tempfile.TemporaryDirectory() as folder, quick_collections() if frozen else contextlib.nullcontext():
        tuner = keras_tuner.RandomSearch(
            hypermodel(reuse, weighting),
            keras_tuner.Objective("val_loss", "min"),
            max_trials=trials,
            directory=folder,
            seed=1,  # keras-tuner takes 0 for none
        )
        tuner.search(x, y, epochs=epochs, validation_data=(x, y), batch_size=64, verbose=0, callbacks=[Clock()])
    times = np.diff(Clock.times)
    return times[1:]


def main():
    options, rows = options_of(__doc__, trials=24, epochs=3), []
    seconds(0, False, "equal", 2, 1)  # TensorFlow starts
    for weighting in ("equal", "mgda"):
        for name, reuse, frozen in (("plain keras-tuner", 0, False), ("reuse", 8, False), ("reuse, frozen", 8, True)):
            times = seconds(reuse, frozen, weighting, options.trials, options.epochs)
            rows.append([f"{weighting}, {name}", f"{times.mean():.2f}", f"{np.median(times):.2f}"])
    print_table("CPU seconds of a trial", ["search", "mean", "median"], rows)


if __name__ == "__main__":
    main()
