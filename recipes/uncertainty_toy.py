"""Kendall's noise toy: does uncertainty weighting find the noise that the labels have?

100 points of two lines, y = 2x + 8 with noise of standard deviation 10 and y = 3x + 3 with 1, one network with a hidden
layer of 1,024 units and a head for each line. Uncertainty weighting learns one log variance s for each task;
exp(s / 2) should come to the noise. Each seed draws its own points and its own initial weights.

What it can show: that the learned noise is right for both tasks, a factor of 10 apart, and how long that takes: with
Adam's 1e-3 for everything, as in the authors' notebook, it is still on its way after 2,000 epochs; with 1e-2 for s
alone it has arrived. What it cannot: that the tasks get better by it. What s follows is the training error, and a
network that fits the noise makes it smaller than the noise.

    python recipes/uncertainty_toy.py [--quick] [--seeds 5] [--epochs 2000]

A picture goes to runs/uncertainty_toy/noise.png.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, mean_and_spread, output_folder

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track
from rich.table import Table

import keras_mtl

POINTS, BATCH = 100, 20
NOISE = {"loud": 10.0, "quiet": 1.0}
SLOPE, OFFSET = {"loud": 2.0, "quiet": 3.0}, {"loud": 8.0, "quiet": 3.0}
PART = 50  # epochs of the data in one epoch of `fit`, whose own work would take longer than five steps
VARIANTS = {"s at 1e-3": 1e-3, "s at 1e-2": 1e-2}


def make_data(seed):
    """Draws the points.

    Returns:
        Tuple `(x, y)`, `y` being a dict.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((POINTS, 1)).astype("float32")
    y = {
        task: (SLOPE[task] * x + OFFSET[task] + NOISE[task] * rng.standard_normal((POINTS, 1))).astype("float32")
        for task in NOISE
    }
    return x, y


def make_model(learning_rate):
    """The authors' network, with a learning rate for s of its own."""
    model = keras_mtl.hard_sharing(
        keras.Input((1,)),
        [keras.layers.Dense(1024, activation="relu")],
        {task: keras.layers.Dense(1) for task in NOISE},
    )
    adam, for_s = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(learning_rate)
    model.compile(
        keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adam, {".*log_var": for_s})),
        loss=dict.fromkeys(NOISE, "mse"),
        weighting="uncertainty",
        steps_per_execution=PART * POINTS // BATCH,
    )
    return model


class Noise(keras.callbacks.Callback):
    """Keeps the learned noise of every epoch of `fit`."""

    def on_train_begin(self, logs=None):
        self.curve = [self.read()]

    def on_epoch_end(self, epoch, logs=None):
        self.curve.append(self.read())

    def read(self):
        """Standard deviations that the learned log variances stand for."""
        return np.exp(0.5 * keras.ops.convert_to_numpy(self.model.weighting.log_var))


def run(seed, learning_rate, epochs):
    """Trains one model.

    Returns:
        Dict with `curve`, the learned noise of shape `(epochs / PART + 1, 2)`, and `error`, the root mean squared
        error on the training points at the end, of shape `(2,)`.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    x, y = make_data(seed)
    model = make_model(learning_rate)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(POINTS, seed=seed).batch(BATCH).repeat(PART)
    noise = Noise()
    model.fit(data, epochs=epochs // PART, callbacks=[noise], shuffle=False, verbose=0)
    predicted = model.predict(x, verbose=0)
    error = [np.sqrt(np.mean((predicted[task] - y[task]) ** 2)) for task in NOISE]
    return {"curve": np.array(noise.curve), "error": np.array(error)}


def report(results):
    """Prints learned noise, training error and true noise."""
    table = Table(title="Standard deviations, mean ± standard deviation over seeds", title_justify="left")
    for column in ("learning rate", "task", "true noise", "training error", "learned noise", "learned / error"):
        table.add_column(column, justify="left" if column in ("learning rate", "task") else "right")
    for variant, runs in results.items():
        for index, task in enumerate(NOISE):
            learned = [found["curve"][-1][index] for found in runs]
            error = [found["error"][index] for found in runs]
            table.add_row(
                variant if index == 0 else "",
                task,
                f"{NOISE[task]:g}",
                mean_and_spread(error, 2),
                mean_and_spread(learned, 2),
                mean_and_spread(np.divide(learned, error), 3),
                end_section=index == 1,
            )
    console.print(table)
    console.print("The weight of a task is 1 / (2 * learned noise^2).")


def draw(results, path):
    """Draws the learned noise over the epochs, one line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(4.6 * len(results), 3.6), sharey=True, layout="constrained")
    for axis, (variant, runs) in zip(axes, results.items(), strict=True):
        for index, task in enumerate(NOISE):
            color = f"C{index}"
            axis.axhline(NOISE[task], color=color, linestyle=":", label=f"{task}: noise of the labels")
            for number, found in enumerate(runs):
                curve = found["curve"][:, index]
                label = f"{task}: learned, one line a seed" if number == 0 else None
                axis.plot(PART * np.arange(len(curve)), curve, color=color, linewidth=1, label=label)
        axis.set(yscale="log", xlabel="epoch", title=f"learning rate of {variant}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("standard deviation")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help=f"epochs, a multiple of {PART} (default: 2,000)")
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.quick else 5)
    epochs = options.epochs or (100 if options.quick else 2000)

    folder = output_folder("uncertainty_toy-quick" if options.quick else "uncertainty_toy")
    jobs = [(variant, seed) for variant in VARIANTS for seed in range(seeds)]
    results = {variant: [] for variant in VARIANTS}
    for variant, seed in track(jobs, description="trainings", console=console):
        results[variant].append(run(seed, VARIANTS[variant], epochs))
    report(results)
    draw(results, folder / "noise.png")
    console.print(f"Picture: {folder / 'noise.png'}")


if __name__ == "__main__":
    main()
