"""Income, marriage and education of 300,000 people: the comparison of the MMoE paper on its own data.

The paper (J. Ma et al., KDD 2018) trains two pairs of tasks on Census-Income: income over $50,000 with never married,
and at least some college with never married. Here all its models are rebuilt, and CGC, PLE, AdaTT, STEM and AITM with
them: same inputs, epochs, batches and optimizer, and the same number of parameters, but for the width of the layers.
The table shows the area under the ROC curve (AUC) on the official 99,762 test rows, with several seeds.

What it can show: which differences between the models are larger than what the seeds do. What it cannot: more than this
data, this size and this learning rate say. Columns that give a label away are not inputs (marital status, and for the
second pair education and enrolment), but others are close to it: the household column has "Child 18+ never marr", which
is why never-married is so easy, in the paper too. Nothing was tuned for a model of its own: all have the learning rate
and the epochs with which the shared bottom and MMoE did well on validation rows. The test rows choose nothing, and the
weights are those after the last epoch.

    python recipes/census_income.py [--quick] [--pairs income,education] [--models mmoe,ple] [--seeds 5] [--epochs 4]

Logs for TensorBoard and a picture of the results go to runs/census_income/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import ProgressOfFit, area_under_roc, console, mean_and_spread, output_folder, progress, seeds_tell_apart
from data import census_income as census
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

PAIRS = {"income": ("income", "never_married"), "education": ("education", "never_married")}
SINGLE = "single-task"
EMBEDDING = 8
BATCH = 512
LEARNING_RATE = 2e-3
# Builder, its options, and the widths of the hidden layers that make each model's parameters about the same number.
MODELS = {
    SINGLE: (keras_mtl.hard_sharing, {"shared_depth": 0}, [61]),
    "shared bottom": (keras_mtl.hard_sharing, {}, [130]),
    "L2-constrained": (keras_mtl.soft_sharing, {"strength": 1e-4}, [61]),
    "cross-stitch": (keras_mtl.cross_stitch, {}, [59]),
    "one gate": (keras_mtl.omoe, {"experts": 8, "shared_depth": 1}, [17]),
    "MMoE": (keras_mtl.mmoe, {"experts": 8, "shared_depth": 1}, [16]),
    "CGC": (keras_mtl.cgc, {"shared_experts": 4, "task_experts": 2, "shared_depth": 1}, [16]),
    "PLE": (keras_mtl.ple, {"shared_experts": 4, "task_experts": 2, "shared_depth": 1}, [15, 12]),
    "AdaTT": (keras_mtl.adatt, {"shared_experts": 4, "task_experts": 2, "shared_depth": 1}, [14, 12]),
    "STEM": (keras_mtl.stem, {"shared_experts": 4, "task_experts": 2}, [12]),
    "AITM": (keras_mtl.aitm, {}, [50]),
}


def columns_input(width, numbers):
    return {
        "codes": keras.Input((width,), dtype="int32", name="codes"),
        "numbers": keras.Input((numbers,), name="numbers"),
    }


def build(name, tasks, codes, widths):
    """A model of the first stage, which embeds the categorical columns, hidden layers, and a tower for each task.

    Args:
        name: String. A key of `MODELS`.
        tasks: Tuple of tasks.
        codes: Integer. Number of different codes.
        widths: Tuple of the number of categorical and of numeric columns.
    """
    layers = keras.layers
    builder, options, hidden = MODELS[name]
    inputs = columns_input(*widths)
    embedded = layers.Flatten()(layers.Embedding(codes, EMBEDDING)(inputs["codes"]))
    embed = keras.Model(inputs, layers.Concatenate()([embedded, inputs["numbers"]]), name="columns")
    return builder(
        inputs=columns_input(*widths),
        stages=[embed, *[layers.Dense(units, activation="relu", name=f"hidden_{i}") for i, units in enumerate(hidden)]],
        heads={task: [layers.Dense(16, activation="relu"), layers.Dense(1)] for task in tasks},
        **options,
    )


def batches(inputs, labels, seed=None):
    """A `tf.data.Dataset` of batches; with a seed, shuffled anew in every epoch."""
    rows = tf.data.Dataset.range(len(inputs["codes"]))
    rows = rows if seed is None else rows.shuffle(len(inputs["codes"]), seed=seed)
    tables = keras.tree.map_structure(tf.constant, (inputs, labels))

    def gather(chosen):
        return tf.nest.map_structure(lambda table: tf.gather(table, chosen), tables)

    return rows.batch(BATCH if seed is not None else 8192).map(gather).prefetch(2)


def train(name, tasks, seed, data, codes, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    model = build(name, tasks, codes, (inputs["codes"].shape[1], inputs["numbers"].shape[1]))
    steps = epochs * -(-len(inputs["codes"]) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=32,
    )
    model.fit(
        batches(inputs, labels, seed),
        epochs=epochs,
        shuffle=False,  # `batches` does
        validation_data=batches(*data["validation"]),
        callbacks=callbacks,
        verbose=0,
    )
    return model


def test(model, data):
    """The AUC of every task, in percent."""
    inputs, labels = data
    scores = model.predict(inputs, batch_size=8192, verbose=0)
    return {task: 100 * area_under_roc(labels[task], scores[task]) for task in labels}


def run(pair, names, seeds, data, codes, epochs, folder, bar, row):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    tasks = PAIRS[pair]
    results = {name: {key: [] for key in (*tasks, "seconds")} for name in names}
    for seed in seeds:
        for name in names:
            logs = folder / "logs" / pair / name.replace(" ", "_") / f"seed{seed}"
            callbacks = [
                ProgressOfFit(bar, row, f"{pair} pair, {name}, seed {seed}"),
                keras.callbacks.TensorBoard(logs, write_graph=False),
            ]
            start = time.perf_counter()
            model = train(name, tasks, seed, data, codes, epochs, callbacks)
            seconds = time.perf_counter() - start
            areas = test(model, data["test"])
            for key, value in {"seconds": seconds, **areas}.items():
                results[name][key].append(value)
            results[name]["parameters"] = model.count_params()
            said = ", ".join(f"{task} {area:.2f}" for task, area in areas.items())
            bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}  ({seconds:.0f} s)")
    return results


def report(pair, results, seeds, rows):
    """Prints a pair's table, and which differences from single-task the seeds carry."""
    tasks = PAIRS[pair]
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    table = Table(title=f"{' and '.join(tasks)}: test AUC x 100, {spread}, {rows:,} rows", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("parameters", "seconds", *tasks):
        table.add_column(column, justify="right")
    for name, result in results.items():
        areas = [mean_and_spread(result[task], digits=3) for task in tasks]
        table.add_row(name, f"{result['parameters']:,}", f"{np.mean(result['seconds']):.0f}", *areas)
    console.print(table)
    if SINGLE not in results or len(seeds) < 3:
        console.print("Without single-task models and 3 seeds, no difference in this table means anything.")
        return
    others = [name for name in results if name != SINGLE]
    for task in tasks:
        differ = [n for n in others if seeds_tell_apart(results[n][task], results[SINGLE][task], len(others))]
        single = np.mean(results[SINGLE][task])
        words = [f"{n} ({np.mean(results[n][task]) - single:+.2f})" for n in differ]
        console.print(f"{task}, differences from single-task that these seeds carry: {', '.join(words) or 'none'}")


def draw(all_results, path):
    """A panel for each pair and task: every seed's AUC, and the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(pair, task) for pair in all_results for task in PAIRS[pair]]
    figure, axes = plt.subplots(1, len(panels), figsize=(1 + 3.2 * len(panels), 3.8), sharey=True, layout="constrained")
    for axis, (pair, task) in zip(axes, panels, strict=True):
        results = all_results[pair]
        for y, result in enumerate(results.values()):
            axis.plot(result[task], np.full(len(result[task]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
            axis.plot(np.mean(result[task]), y, "|", color="black", markersize=16)
        if SINGLE in results:
            axis.axvline(np.mean(results[SINGLE][task]), color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(results)), results)
        axis.set_xlabel("test AUC x 100")
        axis.set_title(f"{task}\n({pair} pair)", fontsize=10)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def names_from(text, known, option):
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{option} takes some of: {', '.join(known)}. Received: {', '.join(unknown)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one seed and epoch: that it runs")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="some of: %(default)s (default: all)")
    parser.add_argument("--models", default=",".join(MODELS), help="some of: %(default)s (default: all)")
    parser.add_argument("--rows", type=int, help="training rows, drawn at random (default: all 199,523)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 3)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 3)")
    options = parser.parse_args()
    pairs = names_from(options.pairs, PAIRS, "--pairs")
    names = names_from(options.models, MODELS, "--models")
    seeds = range(options.seeds or (1 if options.quick else 3))
    epochs = options.epochs or (1 if options.quick else 3)
    rows = options.rows or (20_000 if options.quick else None)

    folder = output_folder("census_income-quick" if options.quick else "census_income")
    with console.status("Reading the tables (half a minute the first time)"):
        arrays = census.load()
    results = {}
    with progress() as bar:
        row = bar.add_task("", total=len(pairs) * len(names) * len(seeds) * epochs)
        for pair in pairs:
            data, codes = census.census_income(PAIRS[pair], rows=rows, arrays=arrays)
            results[pair] = run(pair, names, seeds, data, codes, epochs, folder, bar, row)
    for pair in pairs:
        report(pair, results[pair], seeds, len(data["train"][0]["codes"]))
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
