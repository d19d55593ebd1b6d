"""The synthetic study of multi-gate experts: do gates of their own help tasks that differ?

Two regressions on 100 inputs, `y_k = w_k x + sum_j sin(a_j w_k x + b_j) + noise`, whose weight vectors have a cosine
of 1, 0.5 or 0 (Ma et al., KDD 2018). A shared bottom, one gate and a gate for each task, with the same number of
parameters in the trunk, get the same data, epochs and optimizer, with several seeds, each of which draws tasks, data
and initial weights.

What it shows: by how much gates of their own lower the error as the tasks part. What it does not: the paper leaves the
sines' parameters open; here `a ~ U(0.5, 1.5)` and `b ~ N(0, 1)`, which all three models can learn.

    python recipes/mmoe_study.py [--quick] [--seeds 5] [--epochs 20]

The picture of the results goes to runs/mmoe_study/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, beyond_noise, console, mean_and_spread, output_folder, progress

import keras
import numpy as np
from rich.table import Table

import keras_mtl

INPUTS, SINES, NOISE = 100, 5, 0.1
EXPERTS, UNITS, TOWER = 8, 16, 8
CORRELATIONS = (1.0, 0.5, 0.0)
MODELS = ("shared bottom", "one gate", "a gate each")


def make_data(correlation, seed, examples):
    """Inputs and standardised labels of both tasks: `(train, test)`."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.normal(size=(INPUTS, 2)))[0].T
    w = np.stack([u[0], correlation * u[0] + np.sqrt(1 - correlation**2) * u[1]])
    a, b = rng.uniform(0.5, 1.5, SINES), rng.normal(size=SINES)
    x = rng.normal(size=(examples + 2000, INPUTS)).astype("float32")
    z = x @ w.T
    y = z + np.sin(z[..., None] * a + b).sum(-1) + NOISE * rng.normal(size=z.shape)
    y = (y - y.mean(0)) / y.std(0)
    labels = {task: y[:, [k]].astype("float32") for k, task in enumerate("ab")}
    return tuple((x[part], {t: v[part] for t, v in labels.items()}) for part in (np.s_[:examples], np.s_[examples:]))


def build(name):
    """One of the models: experts of 16 units, or a bottom as wide as all of them."""
    builder, width, options = {
        "shared bottom": (keras_mtl.hard_sharing, EXPERTS * UNITS, {}),
        "one gate": (keras_mtl.omoe, UNITS, {"experts": EXPERTS}),
        "a gate each": (keras_mtl.mmoe, UNITS, {"experts": EXPERTS}),
    }[name]
    layers = keras.layers
    heads = {task: [layers.Dense(TOWER, activation="relu"), layers.Dense(1)] for task in "ab"}
    return builder(keras.Input((INPUTS,)), [layers.Dense(width, activation="relu")], heads, **options)


def run(seeds, examples, epochs):
    """Test errors, mean of both tasks: correlation -> model -> list over seeds."""
    errors = {correlation: {name: [] for name in MODELS} for correlation in CORRELATIONS}
    with progress() as bar:
        row = bar.add_task("", total=len(CORRELATIONS) * len(seeds) * len(MODELS) * epochs)
        for correlation in CORRELATIONS:
            for seed in seeds:
                train, test = make_data(correlation, seed, examples)
                for name in MODELS:
                    keras.utils.clear_session()
                    keras.utils.set_random_seed(seed)
                    model = build(name)
                    model.compile(keras.optimizers.Adam(3e-3), loss="mse")
                    shown = ProgressOfFit(bar, row, f"correlation {correlation:g}, seed {seed}, {name}")
                    model.fit(*train, batch_size=256, epochs=epochs, callbacks=[shown], verbose=0)
                    logs = model.evaluate(*test, batch_size=2000, verbose=0, return_dict=True)
                    errors[correlation][name].append((logs["a_loss"] + logs["b_loss"]) / 2)
    return errors


def report(errors, seeds):
    """Prints the errors and which differences the seeds can show."""
    table = Table(title=f"Test MSE over the labels' variance, {len(seeds)} seeds", title_justify="left")
    table.add_column("model")
    for correlation in errors:
        table.add_column(f"correlation {correlation:g}", justify="right")
        table.add_column("median", justify="right")
    for name in MODELS:
        cells = []
        for by_model in errors.values():
            cells += [mean_and_spread(by_model[name], digits=4), f"{np.median(by_model[name]):.4f}"]
        table.add_row(name, *cells)
    console.print(table)
    for correlation, by_model in errors.items():
        ratio = np.mean(by_model["a gate each"]) / np.mean(by_model["one gate"])
        sure = len(seeds) > 2 and beyond_noise(by_model["a gate each"], by_model["one gate"])
        known = "more than two standard errors" if sure else "within what the seeds differ by"
        console.print(f"correlation {correlation:g}: a gate each / one gate = {ratio:.3f} ({known})")


def draw(errors, path):
    """Error against correlation, with a dot for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for index, name in enumerate(MODELS):
        means = [np.median(errors[c][name]) for c in CORRELATIONS]
        axis.plot(CORRELATIONS, means, "o-", label=name, color=f"C{index}")
        for correlation in CORRELATIONS:
            values = errors[correlation][name]
            axis.plot([correlation + 0.02 * (index - 1)] * len(values), values, ".", color=f"C{index}", alpha=0.5)
    axis.set_yscale("log")
    axis.set_xlabel("cosine of the tasks' weight vectors")
    axis.set_ylabel("test MSE / variance (lines: medians; dots: seeds)")
    axis.legend()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    errors = run(seeds, 1000 if options.quick else 10000, 1 if options.quick else options.epochs)
    report(errors, seeds)
    path = output_folder("mmoe_study") / "results.png"
    draw(errors, path)
    console.print(f"Picture: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
