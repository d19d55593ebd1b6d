"""Income and work of 300,000 people, decided alike for women and men? Penalties, an adversary and a bound.

One trunk learns three tasks of Census-Income: who earns over $50,000, who has been to college, who worked all 52 weeks.
Sex is no input, yet other columns tell it, and the decisions on income and work differ by it, partly because the labels
do (2.6 % of the women have the high income, 10.2 % of the men). The recipe trains the model without and with each
remedy of `keras_mtl.fairness`, with several seeds, and tables accuracy and gaps on the official 99,762 test rows. Sex
stands beside the labels in training and is not needed to predict.

Every model decides about as many rows positive as are: the threshold is the quantile of its scores on validation rows
at the base rate of the task. So no gap is closed by deciding everything negative.

    DP    |P(decided positive | men) - P(decided positive | women)|: demographic parity
    FPR   the same among those whose label is negative; FNR: among positives, equal opportunity
    ARFG  mean over the tasks of the equalized odds gap (the larger of FPR and FNR) over that of single-task models
    ARE   the same of the error rate

What it can show: what each remedy does to each gap, and what it costs, here. What it cannot: which gap should be
closed. Equal decisions and equal error rates exclude each other where the labels differ. Strengths, bound and epochs
are those of a first trial with other seeds; the test rows chose nothing.

    python recipes/fair_income.py [--quick] [--curves] [--methods "none,parity 2"] [--rows 60000] [--seeds 3]

Logs for TensorBoard and a picture of the results go to runs/fair_income/. `--curves` trains more strengths with two
seeds, for the picture.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from census_income import EMBEDDING, batches, columns_input, names_from
from common import ProgressOfFit, area_under_roc, console, mean_and_spread, output_folder, progress
from data import census_income as census
from rich.box import SIMPLE_HEAD
from rich.table import Table

import keras_mtl
from keras_mtl import fairness

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

TASKS = ("income", "education", "full_year")
UNEQUAL = ("income", "full_year")  # there is next to no gap in education
SEX = "sex"  # 0: women, 1: men
LEARNING_RATE = 2e-3
BATCH = 512
SINGLE, NONE = "single-task", "none"


def parity(strength, tasks=("income",)):
    return {task: fairness.ParityPenalty(SEX, strength, from_logits=True) for task in tasks}


def covariance(strength, tasks=("income",)):
    return {task: fairness.CovariancePenalty(SEX, strength, from_logits=True) for task in tasks}


def mmd(strength, tasks=("income",)):
    return {task: fairness.MMDPenalty(SEX, strength, among="negatives", from_logits=True) for task in tasks}


def adversary(strength, tasks=("income",)):
    return {task: fairness.Adversary(SEX, strength, sees_label=True, from_logits=True) for task in tasks}


def bound(**largest):
    """Demographic parity of probabilities, to within a bound for each task."""
    return {
        task: fairness.ParityPenalty(SEX, bound=value, multiplier_rate=0.5, from_logits=True)
        for task, value in largest.items()
    }


# What makes the penalties: each model needs its own, since multipliers and adversaries are state.
METHODS = {
    SINGLE: dict,
    NONE: dict,
    "parity 2": lambda: parity(2.0),
    "covariance 8": lambda: covariance(8.0),
    "MMD 5": lambda: mmd(5.0),
    "adversary 0.5": lambda: adversary(0.5),
    "adversary 1": lambda: adversary(1.0),
    "bound 0.02": lambda: bound(income=0.02),
    "both: parity 2": lambda: parity(2.0, UNEQUAL),
    "both: MMD 5": lambda: mmd(5.0, UNEQUAL),
    "both: adversary 1": lambda: adversary(1.0, UNEQUAL),
    "both: bounds": lambda: bound(income=0.02, full_year=0.03),
}
CURVES = {
    f"{name} {strength:g}": lambda make=make, strength=strength: make(strength)
    for name, make, strengths in (
        ("parity", parity, (0.25, 0.5, 1.0)),
        ("MMD", mmd, (1.0, 2.0, 20.0)),
        ("adversary", adversary, (0.25, 2.0)),
    )
    for strength in strengths
}


def build(tasks, codes, widths, shared):
    """Embeds the categorical columns; a hidden layer and a tower for each task follow."""
    layers = keras.layers
    inputs = columns_input(*widths)
    embedded = layers.Flatten()(layers.Embedding(codes, EMBEDDING)(inputs["codes"]))
    embed = keras.Model(inputs, layers.Concatenate()([embedded, inputs["numbers"]]), name="columns")
    return keras_mtl.hard_sharing(
        inputs=columns_input(*widths),
        stages=[embed, layers.Dense(128, activation="relu", name="hidden")],
        heads={task: [layers.Dense(16, activation="relu"), layers.Dense(1)] for task in tasks},
        shared_depth=None if shared else 0,
    )


def train(name, seed, data, codes, epochs, callbacks):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs, labels = data["train"]
    model = build(TASKS, codes, (inputs["codes"].shape[1], inputs["numbers"].shape[1]), name != SINGLE)
    steps = epochs * -(-len(inputs["codes"]) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics={task: [fairness.DemographicParityGap(SEX, from_logits=True, name="gap")] for task in TASKS},
        penalties=(METHODS | CURVES)[name](),
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
    """AUC, error and gaps of every task, in percent. The threshold is found on validation rows."""
    scores = {split: model.predict(data[split][0], batch_size=8192, verbose=0) for split in ("validation", "test")}
    labels, results = data["test"][1], {}
    for task in TASKS:
        base_rate = data["train"][1][task].mean()
        threshold = np.quantile(scores["validation"][task], 1 - base_rate)
        rates = fairness.group_rates(labels[task], scores["test"][task], labels[SEX], threshold)
        results[task] = {
            "AUC": 100 * area_under_roc(labels[task], scores["test"][task]),
            "error": 100 * np.mean((scores["test"][task] > threshold) != (labels[task] > 0.5)),
            "DP": 100 * rates["demographic_parity_gap"],
            "FPR": 100 * rates["false_positive_gap"],
            "FNR": 100 * rates["equal_opportunity_gap"],
            "odds": 100 * rates["equalized_odds_gap"],
        }
    return results


def seeds_of(name, seeds):
    """The points between, on the curves of the picture, take two seeds."""
    return seeds if name in METHODS else seeds[:2]


def run(names, seeds, data, codes, epochs, folder):
    """Trains and tests every model with every seed. Returns a dict from model to a list of results."""
    results = {name: [] for name in names}
    with progress() as bar:
        row = bar.add_task("", total=sum(len(seeds_of(name, seeds)) for name in names) * epochs)
        for seed in seeds:
            for name in (name for name in names if seed in seeds_of(name, seeds)):
                logs = folder / "logs" / name.replace(" ", "_").replace(":", "") / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                start = time.perf_counter()
                model = train(name, seed, data, codes, epochs, callbacks)
                seconds = time.perf_counter() - start
                results[name].append(test(model, data))
                income = results[name][-1]["income"]
                said = f"income AUC {income['AUC']:.2f}, DP {income['DP']:.1f}, FPR {income['FPR']:.1f}"
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}  ({seconds:.0f} s)")
    return results


def column(results, name, task, key):
    return np.array([result[task][key] for result in results[name]])


def relative(results, name, key, summary):
    """A summary over the tasks for each seed, against the mean of the single-task models."""
    single = {task: column(results, SINGLE, task, key).mean() for task in TASKS}
    return np.array([summary({task: one[task][key] for task in TASKS}, single) for one in results[name]])


def report(results, seeds):
    """Prints a table for income and one for full_year and the summaries, and what the remedies achieved."""
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    for task in UNEQUAL:
        table = Table(
            title=f"{task}: test, in percent, {spread}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        table.add_column("model", no_wrap=True)
        for key in ("AUC", "DP", "FPR", "FNR"):
            table.add_column(key, justify="right")
        for name in results:
            values = [column(results, name, task, key) for key in ("AUC", "DP", "FPR", "FNR")]
            digits = (2, 1, 1, 1)
            table.add_row(name, *(mean_and_spread(v, digits=d) for v, d in zip(values, digits, strict=True)))
        console.print(table)
    if SINGLE in results:
        table = Table(title="all tasks against single-task", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("model", no_wrap=True)
        for title in ("education AUC", "ARFG", "ARE"):
            table.add_column(title, justify="right")
        for name in results:
            table.add_row(
                name,
                mean_and_spread(column(results, name, "education", "AUC"), digits=2),
                mean_and_spread(relative(results, name, "odds", fairness.average_relative_gap), digits=2),
                mean_and_spread(relative(results, name, "error", fairness.average_relative_error), digits=3),
            )
        console.print(table)
    if NONE in results:
        for name, key, ratio, points in (
            ("parity 2", "DP", 0.3, 4.0),
            ("MMD 5", "FPR", 0.4, 2.0),
            ("adversary 1", "FPR", 0.65, 1.0),
        ):
            if name in results:
                share = column(results, name, "income", key).mean() / column(results, NONE, "income", key).mean()
                lost = column(results, NONE, "income", "AUC").mean() - column(results, name, "income", "AUC").mean()
                word = "as expected" if share <= ratio and lost <= points else "NOT as expected"
                console.print(
                    f"{name}: {key} gap {share:.2f} of that without (expected: at most {ratio}), "
                    f"AUC {lost:.2f} points lower (at most {points:g}): {word}"
                )


def draw(results, path):
    """What closing a gap costs: AUC against the gap, for both unequal tasks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(task, key) for task in UNEQUAL for key in ("DP", "FPR")]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    families = sorted({family(name) for name in results})
    for axis, (task, key) in zip(axes.flat, panels, strict=True):
        for index, kind in enumerate(families):
            members = [name for name in results if family(name) == kind]
            points = {
                name: (column(results, name, task, key).mean(), column(results, name, task, "AUC").mean())
                for name in members
            }
            for name in members:
                axis.plot(
                    column(results, name, task, key),
                    column(results, name, task, "AUC"),
                    ".",
                    color=f"C{index}",
                    alpha=0.35,
                    markersize=5,
                )
            order = sorted(points.values())
            axis.plot(*zip(*order, strict=True), "o-", color=f"C{index}", linewidth=1, label=kind)
            for name, point in points.items():
                if kind not in (SINGLE, NONE):
                    axis.annotate(
                        name.removeprefix(kind).strip() or name,
                        point,
                        xytext=(4, 4),
                        textcoords="offset points",
                        size=7,
                    )
        axis.set_xlim(left=0)
        axis.set_title(f"{task}", fontsize=10)
        axis.set_xlabel(f"{key} gap between women and men, percentage points")
        axis.set_ylabel("test AUC x 100")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def family(name):
    """A method whatever its strength."""
    return name if name in (SINGLE, NONE) or name.startswith("both") else name.split(" ")[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one seed and epoch: that it runs")
    parser.add_argument("--curves", action="store_true", help=f"these models too: {', '.join(CURVES)}")
    parser.add_argument("--methods", help=f"some of: {', '.join([*METHODS, *CURVES])}")
    parser.add_argument("--rows", type=int, help="training rows, drawn at random (default: all 199,523)")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 3)")
    options = parser.parse_args()
    names = list(METHODS | CURVES if options.curves else METHODS)
    if options.quick:
        names = [NONE, "parity 2", "adversary 1"]
    if options.methods:
        names = names_from(options.methods, METHODS | CURVES, "--methods")
    seeds = range(options.seeds or (1 if options.quick else 5))
    epochs = options.epochs or (1 if options.quick else 3)
    rows = options.rows or (20_000 if options.quick else None)

    folder = output_folder("fair_income-quick" if options.quick else "fair_income")
    with console.status("Reading the tables (half a minute the first time)"):
        data, codes = census.census_income(TASKS, rows=rows, protected=SEX)
    results = run(names, seeds, data, codes, epochs, folder)
    report(results, seeds)
    draw(results, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
