"""Ask before you share: `keras_mtl.advise` on patients and genes, beside fixed choices.

`advise` is given stages, heads, data and some minutes, once for each data set, and picks a model. Then its pick and
four fixed choices (nothing shared, all shared, all shared with uncertainty weighting, MMoE) are trained with five fresh
seeds each on all training examples and tested. Patients are four tasks of SUPPORT2, with the gaps that their labels
have; genes are the first four groups of functions of yeast. Area under the ROC curve for yes and no, mean absolute
error for numbers; gains are delta_m over "nothing shared".

What it can show: how far the pick is from the best fixed choice, which nobody knows beforehand. What it cannot: that
`advise` is right on other data; two data sets are two.

    python recipes/advice.py [--quick] [--data patients,genes] [--minutes 10] [--epochs 20] [--seeds 5]

The pages of `advise` and what was trained go to runs/advice/; a call that was stopped goes on there.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, delta_m, mean_and_spread, output_folder, pairs_tell_apart

import keras
import numpy as np
import tensorflow as tf
from data import support2, yeast
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

PATIENTS = ("hospital_death", "dead_180", "charges", "stay")
NUMBERS = ("charges", "stay")
GENES = 4
BATCH = 128
ALONE = "nothing shared"
FIXED = {
    ALONE: (keras_mtl.hard_sharing, {"shared_depth": 0}, "equal"),
    "all shared": (keras_mtl.hard_sharing, {}, "equal"),
    "all shared, uncertainty": (keras_mtl.hard_sharing, {}, "uncertainty"),
    "MMoE": (keras_mtl.mmoe, {"experts": 4}, "equal"),
}


def patients():
    """Training and test patients, as `fit` takes them."""
    splits = support2.support2(validation=0)
    return tuple((x, {task: y[task] for task in PATIENTS}) for x, y in (splits["train"], splits["test"]))


def genes():
    """Training and test genes."""
    splits = yeast.yeast()
    return tuple(
        (x, {f"f{k + 1}": y[:, k : k + 1] for k in range(GENES)}) for x, y in (splits["train"], splits["test"])
    )


DATA = {"patients": patients, "genes": genes}


def parts(train):
    """Inputs, stages, heads and arguments of `compile`, made anew."""
    x, y = train
    inputs = keras.Input(x.shape[1:])
    stages = [
        [keras.layers.Dense(units, activation="relu", name=f"hidden_{i}"), keras.layers.Dropout(0.2)]
        for i, units in enumerate((64, 32))
    ]
    heads = {t: keras.layers.Dense(1, activation=None if t in NUMBERS else "sigmoid") for t in y}
    loss = {task: "mse" if task in NUMBERS else "binary_crossentropy" for task in y}
    return (inputs, stages, heads), {"optimizer": "adam", "loss": loss, "missing": "nan"}


def metrics_of(train):
    return {task: "mae" if task in NUMBERS else "auc" for task in train[1]}


def build(name, train):
    """A compiled fixed choice."""
    builder, options, weighting = FIXED[name]
    given, compiled = parts(train)
    model = builder(*given, **options)
    model.compile(**compiled, metrics={t: [m] for t, m in metrics_of(train).items()}, weighting=weighting)
    return model


def study(name, arguments, folder):
    """Asks, trains the pick and the fixed choices, and prints what each gained. Returns delta_m by candidate."""
    train, test = DATA[name]()
    if arguments.quick:
        train = tuple(
            part[:300] if not isinstance(part, dict) else {t: y[:300] for t, y in part.items()} for part in train
        )
    epochs, seeds = (2, 2) if arguments.quick else (arguments.epochs, arguments.seeds)
    given, compiled = parts(train)
    metrics = metrics_of(train)
    advice = keras_mtl.advise(
        *given,
        train=train,
        test=test,
        compile=compiled,
        metrics=metrics,
        minutes=arguments.minutes,
        epochs=epochs,
        seeds=min(3, seeds),
        batch_size=BATCH,
        directory=folder / "advice",
    )
    console.print(f"[bold]{name}[/]")
    advice.print()
    advice.to_html(folder / f"{name}.html")
    namespace = {}
    exec(advice.code(), namespace)
    candidates = {label: lambda label=label: build(label, train) for label in FIXED}
    candidates[f"advise: {advice.name}"] = namespace["make_model"]
    report = keras_mtl.analysis.compare(
        candidates,
        train,
        baselines={task: {metric: 1.0} for task, metric in metrics.items()},  # gains are worked out below
        metrics=metrics,
        test=test,
        epochs=epochs,
        seeds=list(range(500, 500 + seeds)),
        batch_size=BATCH,
        directory=folder / "runs",
    )
    scores = {
        label: {t: np.array([run["values"][f"{t}_{m}"] for run in runs]) for t, m in metrics.items()}
        for label, runs in report.runs.items()
    }
    gains = {label: delta_m(of, scores[ALONE], lower_is_better=NUMBERS) for label, of in scores.items()}
    table = Table(title=f"{name}: test, {seeds} seeds", title_justify="left")
    for column in ("model", "parameters", *(f"{t} {m}" for t, m in metrics.items()), "delta_m, %"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for label, of in scores.items():
        cells = [mean_and_spread(of[task], digits=3) for task in metrics]
        mark = "" if label == ALONE or not pairs_tell_apart(gains[label], gains[ALONE], len(gains) - 1) else " *"
        parameters = f"{report.runs[label][0]['parameters']:,}"
        table.add_row(label, parameters, *cells, mean_and_spread(gains[label], digits=2, signed=True) + mark)
    console.print(table)
    best = max(FIXED, key=lambda label: gains[label].mean())
    regret = gains[best].mean() - gains[f"advise: {advice.name}"].mean()
    console.print(
        f"* told apart from {ALONE!r} (paired t-tests at 5 %, shared out). Behind the best fixed choice, {best!r}, by "
        f"{regret:+.2f} points; page: {folder / f'{name}.html'}"
    )
    return gains


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, epochs and seeds, to see that it runs")
    parser.add_argument("--data", default="patients,genes")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    folder = output_folder("advice")
    for name in arguments.data.split(","):
        study(name, arguments, folder)


if __name__ == "__main__":
    main()
