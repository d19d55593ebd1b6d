"""GradNorm's toy: tasks that differ in nothing but scale. Does learning the weights make up for the scale?

Every task is y = scale * tanh((B + E) x) with 250 inputs and 100 outputs: B is common, E the task's own, the entries
drawn with variance 10 and 3.5. A trunk of four layers of 100 units serves heads that are one layer each. There are 2
tasks with the scales 1 and 100, or 10 tasks with scales between 1 and 100. The score is the sum over the tasks of the
test loss divided by its scale squared: what counts is how well each task is learned, not how loud it is.

Two weightings that know or find the scales stand beside GradNorm: uncertainty weighting, and weights set by hand to
1 / scale^2, which only somebody who knows the scales could set.

What it can show: how each weighting deals with loudness alone. Learned weights do better than equal ones, and clearly
worse than the right ones. Uncertainty weighting has hardly begun: its variances start at 1 and take Adam's small steps
towards thousands. What it cannot show: much else. The tasks are alike, the inputs are random, and predicting 0 scores
about 0.8 for each task, which 10,000 points do not teach to beat by much.

    python recipes/gradnorm_toy.py [--quick] [--tasks 2,10] [--seeds 5] [--epochs 15]

A picture goes to runs/gradnorm_toy/results.png.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import beyond_noise, console, mean_and_spread, output_folder

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track
from rich.table import Table

import keras_mtl

INPUTS, OUTPUTS = 250, 100
TRAIN, TEST, BATCH = 10_000, 2_000, 200
METHODS = ("equal", "gradnorm", "uncertainty", "by hand")


def make_data(tasks, seed, train=TRAIN):
    """Draws the functions and their points, the inputs of length 1.

    Returns:
        Tuple of the scales (dict from task to number), the training and the test points, each `(x, y)`.
    """
    rng = np.random.default_rng(seed)
    scales = [1.0, 100.0] if tasks == 2 else np.exp(rng.uniform(0.0, np.log(100.0), tasks))
    scales = {f"task{k}": float(scale) for k, scale in enumerate(scales)}
    common = np.sqrt(10.0) * rng.standard_normal((INPUTS, OUTPUTS))
    x = rng.standard_normal((train + TEST, INPUTS))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = {}
    for task, scale in scales.items():
        own = np.sqrt(3.5) * rng.standard_normal((INPUTS, OUTPUTS))
        y[task] = (scale * np.tanh(x @ (common + own))).astype("float32")
    x = x.astype("float32")
    parts = [(x[part], {task: v[part] for task, v in y.items()}) for part in (slice(train), slice(train, None))]
    return scales, *parts


def make_model(method, scales):
    """The paper's network, compiled with one of `METHODS`."""
    dense = keras.layers.Dense
    model = keras_mtl.hard_sharing(
        keras.Input((INPUTS,)),
        [dense(100, activation="relu") for _ in range(4)],
        {task: dense(OUTPUTS) for task in scales},
    )
    weighting, options = method, {}
    if method == "gradnorm":
        # The paper's strength for this toy, and its place for the norms.
        weighting = keras_mtl.weighting.GradNorm(alpha=0.12, learning_rate=0.025, relative=True)
        options["gradients"] = "last_shared"
    elif method == "by hand":
        weighting, options["loss_weights"] = "equal", {task: scale**-2 for task, scale in scales.items()}
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=dict.fromkeys(scales, "mse"),
        weighting=weighting,
        steps_per_execution=10,
        jit_compile=False,
        **options,
    )
    return model


def run(method, tasks, seed, epochs, train=TRAIN):
    """Trains one model.

    Returns:
        Dict with `score`, the test score after every epoch, `weights`, the task weights of every epoch of shape
        `(epochs, K)`, and `nothing`, the score of predicting 0.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    scales, (x, y), test = make_data(tasks, seed, train)
    model = make_model(method, scales)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(train, seed=seed).batch(BATCH)
    history = model.fit(
        data, validation_data=test, validation_batch_size=TEST, epochs=epochs, shuffle=False, verbose=0
    ).history
    score = np.sum([np.array(history[f"val_{task}_loss"]) / scale**2 for task, scale in scales.items()], axis=0)
    weights = np.stack([history[f"{task}_weight"] for task in scales], axis=1)
    nothing = float(np.sum([np.mean(test[1][task] ** 2) / scale**2 for task, scale in scales.items()]))
    scales = np.array(list(scales.values()))
    return {"score": score, "weights": weights, "nothing": nothing, "scales": scales}


def report(tasks, results):
    """Prints the scores and which of them differ from equal weighting's beyond the seeds."""
    table = Table(title=f"{tasks} tasks: test score, less is better", title_justify="left")
    for column in ("weighting", "at the end", "best epoch", "weight of the quietest", "weight of the loudest"):
        table.add_column(column, justify="left" if column == "weighting" else "right")
    nothing = [found["nothing"] for found in results["equal"]]
    table.add_row("predicting 0", mean_and_spread(nothing, 3), end_section=True)
    for method, runs in results.items():
        weights = [found["weights"][-1] / found["weights"][-1].sum() * tasks for found in runs]
        quiet, loud = (
            [w[pick(found["scales"])] for w, found in zip(weights, runs, strict=True)]
            for pick in (np.argmin, np.argmax)
        )
        table.add_row(
            method,
            mean_and_spread([found["score"][-1] for found in runs], 3),
            mean_and_spread([found["score"].min() for found in runs], 3),
            mean_and_spread(quiet, 3),
            mean_and_spread(loud, 5),
        )
    console.print(table)
    console.print("The weights are divided so that they sum to the number of tasks.")
    if len(nothing) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    equal = [found["score"][-1] for found in results["equal"]]
    for method in [method for method in results if method != "equal"]:
        scores = [found["score"][-1] for found in results[method]]
        words = "differs from" if beyond_noise(scores, equal) else "does not differ from"
        console.print(f"{method}: {words} equal weighting by more than two standard errors of the seeds")


def draw(results, path):
    """Draws the scores over the epochs and the weights of the first seed of GradNorm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(4.8 * len(results), 6.4), sharex=True, squeeze=False, layout="constrained"
    )
    for column, (tasks, by_method) in enumerate(results.items()):
        axis, lower = axes[:, column]
        nothing = np.mean([found["nothing"] for found in by_method["equal"]])
        axis.axhline(nothing, color="black", linestyle=":", linewidth=1, label="predicting 0")
        for index, (method, runs) in enumerate(by_method.items()):
            scores = np.array([found["score"] for found in runs])
            epochs = np.arange(1, scores.shape[1] + 1)
            axis.plot(epochs, scores.mean(0), color=f"C{index}", label=method)
            axis.fill_between(epochs, scores.min(0), scores.max(0), color=f"C{index}", alpha=0.2, linewidth=0)
        axis.set_title(f"{tasks} tasks: test score (band: all seeds)", fontsize=10)
        axis.legend(fontsize=8)
        first = by_method["gradnorm"][0]
        order = np.argsort(first["scales"])
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, tasks))
        for color, k in zip(colors, order, strict=True):
            lower.plot(epochs, first["weights"][:, k], color=color, label=f"{first['scales'][k]:.0f}")
        lower.set(yscale="log", xlabel="epoch")
        lower.set_title("GradNorm's weights, first seed, by scale of the task", fontsize=10)
        lower.legend(fontsize=7, ncols=2, title="scale", title_fontsize=7)
        for one in (axis, lower):
            one.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few points: shows that it runs, nothing else")
    parser.add_argument("--tasks", default="2,10", help="numbers of tasks (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 15)")
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.quick else 5)
    epochs = options.epochs or (2 if options.quick else 15)
    train = 2_000 if options.quick else TRAIN

    folder = output_folder("gradnorm_toy-quick" if options.quick else "gradnorm_toy")
    numbers = [int(number) for number in options.tasks.split(",")]
    results = {tasks: {method: [] for method in METHODS} for tasks in numbers}
    jobs = [(tasks, seed, method) for tasks in numbers for seed in range(seeds) for method in METHODS]
    for tasks, seed, method in track(jobs, description="trainings", console=console):
        results[tasks][method].append(run(method, tasks, seed, epochs, train))
    for tasks, by_method in results.items():
        report(tasks, by_method)
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}")


if __name__ == "__main__":
    main()
