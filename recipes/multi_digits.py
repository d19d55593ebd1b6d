"""Two overlaid handwritten digits, one task for each: does sharing a trunk help, and does the weighting matter?

Every picture holds two real digits (recipes/data/digits.py). A single-task column for each task and hard sharing with
several weightings get the same pictures, epochs and optimizer, with several seeds. The table compares test accuracies:
delta_m is the mean over the tasks of the relative gain over the single-task mean, in percent.

What it can show: whether one trunk for both tasks keeps up with two, at half the parameters, and which weightings
differ from that by more than the seeds do. What it cannot: the seeds draw initial weights and the order of batches, but
all use one split of 5,000 digits, and the network is small, so the differences are those of this data and this budget.
The learning rate was chosen on the validation pictures, for single-task and shared models alike; the test pictures
choose nothing, and the weights are those after the last epoch.

    python recipes/multi_digits.py [--quick] [--weightings equal,pcgrad,mgda:features] [--seeds 8] [--epochs 4]

Logs for TensorBoard and a picture of the results go to runs/multi_digits/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
from common import ProgressOfFit, beyond_noise, console, delta_m, mean_and_spread, output_folder, progress
from data.digits import SIDE, two_digits
from rich.table import Table

import keras_mtl

TASKS = ("left", "right")
SINGLE = "single-task"
BATCH = 100


def build(shared_depth):
    """A LeNet of three stages and a head of ten classes for each digit."""
    layers = keras.layers
    return keras_mtl.hard_sharing(
        inputs=keras.Input((SIDE, SIDE, 1)),
        stages=[
            [layers.Conv2D(10, 5, activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(50, activation="relu")],
        ],
        heads={task: layers.Dense(10) for task in TASKS},
        shared_depth=shared_depth,
    )


def train(name, seed, data, epochs, callbacks):
    """Trains one model; `name` is "single-task" or a weighting, as in `--weightings`."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    weighting, _, gradients = ("equal" if name == SINGLE else name).partition(":")
    # With nothing shared, one model holds the column of each task: two single-task models trained side by side.
    model = build(shared_depth=0 if name == SINGLE else None)
    pictures, labels = data["train"]
    steps = epochs * -(-len(pictures) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(6e-3, steps)),
        loss={task: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for task in TASKS},
        metrics={task: ["accuracy"] for task in TASKS},
        weighting=weighting,
        gradients=gradients or "parameters",
    )
    model.fit(
        pictures,
        labels,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=data["validation"],
        validation_batch_size=500,
        callbacks=callbacks,
        verbose=0,
    )
    return model


def run(names, seeds, data, epochs, folder):
    """Trains every model with every seed and tests it.

    Returns:
        Tuple of the results, a dict from name to dict of lists, and the predictions of the first seed's first shared
        model on the test pictures.
    """
    results = {name: {"seconds": [], **{task: [] for task in TASKS}} for name in names}
    predictions = None
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            for name in names:
                logs = folder / "logs" / name.replace(":", "_") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                start = time.perf_counter()
                model = train(name, seed, data, epochs, callbacks)
                seconds = time.perf_counter() - start
                test = model.evaluate(*data["test"], batch_size=500, verbose=0, return_dict=True)
                accuracies = {task: 100 * test[f"{task}_accuracy"] for task in TASKS}
                for key, value in {"seconds": seconds, **accuracies}.items():
                    results[name][key].append(value)
                results[name]["parameters"] = sum(layer.count_params() for layer in model.layers)
                if predictions is None and name != SINGLE:
                    predictions = model.predict(data["test"][0][:12], verbose=0)
                said = ", ".join(f"{task} {accuracy:.1f} %" for task, accuracy in accuracies.items())
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}  ({seconds:.0f} s)")
    return results, predictions


def report(results, seeds):
    """Prints the table and what its differences are worth."""
    baseline = {task: results[SINGLE][task] for task in TASKS}
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"Test accuracy in percent, {spread}", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("parameters", "seconds", *TASKS, "delta_m %"):
        table.add_column(column, justify="right")
    gains = {}
    for name, result in results.items():
        gains[name] = delta_m({task: result[task] for task in TASKS}, baseline)
        table.add_row(
            name,
            f"{result['parameters']:,}",
            f"{np.mean(result['seconds']):.0f}",
            *(mean_and_spread(result[task]) for task in TASKS),
            mean_and_spread(gains[name], signed=True),
            end_section=name == SINGLE,
        )
    console.print(table)
    console.print("single-task: two columns side by side; the others: one trunk for both tasks")
    if len(seeds) < 3:
        console.print("With fewer than 3 seeds, no difference in this table means anything.")
        return
    shared = [name for name in results if name != SINGLE]
    differ = [name for name in shared if beyond_noise(gains[name], gains[SINGLE])]
    better = [name for name in differ if np.mean(gains[name]) > 0]
    for words, chosen in (
        ("Better than single-task by more than two standard errors", better),
        ("Worse than single-task by more than two standard errors", [n for n in differ if n not in better]),
        ("No difference from single-task that these seeds can show", [n for n in shared if n not in differ]),
    ):
        console.print(f"{words}: {', '.join(chosen) or 'none'}")
    console.print("This holds for one draw of the pictures: it covers the seeds, not the data.")


def draw(results, predictions, data, path):
    """Draws test pictures with both predictions, and the accuracies against single-task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pictures, labels = data["test"]
    classes = {task: predictions[task].argmax(-1) for task in TASKS}
    shared = [name for name in results if name != SINGLE]
    figure = plt.figure(figsize=(11, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.15))

    upper.suptitle(f"The first test pictures: predicted left and right digit (shared, {shared[0]})", fontsize=11)
    for index, axis in enumerate(upper.subplots(2, 6).flat):
        axis.imshow(pictures[index, :, :, 0], cmap="gray_r")
        axis.set_axis_off()
        for task, place in zip(TASKS, (0.32, 0.68), strict=True):
            predicted, true = classes[task][index], labels[task][index]
            right = predicted == true
            text = f"{predicted}" if right else f"{predicted} (is {true})"
            axis.text(
                place, 1.04, text, transform=axis.transAxes, ha="center", color="tab:green" if right else "tab:red"
            )

    lower.suptitle("Test accuracy against single-task (points: seeds; bars: mean ± standard deviation)", fontsize=11)
    for axis, task in zip(lower.subplots(1, 2, sharey=True), TASKS, strict=True):
        single = np.asarray(results[SINGLE][task])
        places = np.linspace(-0.12, 0.12, len(single)) if len(single) > 1 else np.zeros(1)
        axis.axhline(0, color="black", linewidth=1)
        if len(single) > 1:
            axis.axhspan(-single.std(ddof=1), single.std(ddof=1), color="black", alpha=0.1, label="single-task ± sd")
        for x, name in enumerate(shared):
            gain = np.asarray(results[name][task]) - single.mean()
            error = gain.std(ddof=1) if len(gain) > 1 else None
            axis.bar(x, gain.mean(), yerr=error, width=0.6, color=f"C{x}", alpha=0.75, capsize=4)
            axis.plot(x + places, gain, "o", color="black", markersize=3)
        axis.set_xticks(range(len(shared)), shared, rotation=0 if len(shared) < 6 else 45)
        axis.set_title(f"{task} digit: single-task {single.mean():.1f} %", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.label_outer()
        if task == TASKS[0]:
            axis.set_ylabel("percentage points")
            if len(single) > 1:
                axis.legend(loc="best", fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, little data: shows that it runs, nothing else")
    parser.add_argument(
        "--weightings",
        default="equal,uncertainty,mgda,mgda:features",
        help="names of keras_mtl.weighting.names(), with :features or :last_shared added for gradients= "
        "(default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 4)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 4)")
    options = parser.parse_args()
    names = options.weightings.split(",")
    for name in names:  # an unknown name is refused before anything is trained
        weighting, _, gradients = name.partition(":")
        if weighting not in keras_mtl.weighting.names() or gradients not in ("", "features", "last_shared"):
            parser.error(f"--weightings should have names among {keras_mtl.weighting.names()}. Received: {name}")
    seeds = range(options.seeds or (1 if options.quick else 4))
    epochs = options.epochs or (1 if options.quick else 4)
    pairs = (2000, 500, 500) if options.quick else (8000, 2000, 4000)

    folder = output_folder("multi_digits-quick" if options.quick else "multi_digits")
    data = two_digits(dict(zip(("train", "validation", "test"), pairs, strict=True)))
    results, predictions = run([SINGLE, *names], seeds, data, epochs, folder)
    report(results, seeds)
    draw(results, predictions, data, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
