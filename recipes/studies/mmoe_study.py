"""The synthetic study of multi-gate experts: do gates of their own help tasks that differ?

About ten minutes on two cores, half a minute with --quick; downloads nothing.

Two regressions on 100 inputs, `y_k = w_k x + sum_j sin(a_j w_k x + b_j) + noise`, whose weight vectors have a cosine of
1, 0.5 or 0 (Ma et al., KDD 2018). A shared bottom, one gate and a gate for each task have the same number of parameters
in the trunk; each seed draws tasks, data and initial weights.

What it shows: by how much gates of their own lower the error as the tasks part. What it does not: the paper leaves the
sines' parameters open; here `a ~ U(0.5, 1.5)` and `b ~ N(0, 1)`, which all three models can learn.

    python recipes/studies/mmoe_study.py [--quick] [--seeds 5] [--epochs 20]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, console, study

import keras
import numpy as np
from data.arrays import scaled, split_at

import keras_mtl

INPUTS, SINES, NOISE = 100, 5, 0.1
EXPERTS, UNITS, TOWER = 8, 16, 8
CORRELATIONS = (1.0, 0.5, 0.0)
MODELS = {
    "shared bottom": (keras_mtl.hard_sharing, EXPERTS * UNITS, {}),  # as wide as all experts
    "one gate": (keras_mtl.omoe, UNITS, {"experts": EXPERTS}),
    "a gate each": (keras_mtl.mmoe, UNITS, {"experts": EXPERTS}),
}


def make_data(correlation, seed, examples):
    """Inputs and standardised labels of both tasks: `(train, test)`."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.normal(size=(INPUTS, 2)))[0].T
    w = np.stack([u[0], correlation * u[0] + np.sqrt(1 - correlation**2) * u[1]])
    a, b = rng.uniform(0.5, 1.5, SINES), rng.normal(size=SINES)
    x = rng.normal(size=(examples + 2000, INPUTS)).astype("float32")
    z = x @ w.T
    y = scaled(z + np.sin(z[..., None] * a + b).sum(-1) + NOISE * rng.normal(size=z.shape), axis=0)
    return split_at((x, {task: y[:, [k]].astype("float32") for k, task in enumerate("ab")}), examples)


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(20, 1))
    data_of = lru_cache(1)(make_data)

    def run(name, seed, callbacks):
        correlation, name = name
        train, test = data_of(correlation, seed, 1000 if options.quick else 10000)
        (builder, width, shape), layers = MODELS[name], keras.layers
        heads = {task: [layers.Dense(TOWER, activation="relu"), layers.Dense(1)] for task in "ab"}
        model = builder(keras.Input((INPUTS,)), [layers.Dense(width, activation="relu")], heads, **shape)
        model.compile(keras.optimizers.Adam(3e-3), loss="mse")
        model.fit(*train, batch_size=256, epochs=options.epochs, callbacks=callbacks, verbose=0)
        logs = model.evaluate(*test, batch_size=2000, verbose=0, return_dict=True)
        return {"MSE": (logs["a_loss"] + logs["b_loss"]) / 2}

    groups = {correlation: f"correlation {correlation:g}" for correlation in CORRELATIONS}
    how = {"reference": "one gate", "lower": True, "digits": 4, "paired": True}
    results = study(run, options, ["MSE"], groups=groups, title="test MSE over the labels' variance", **how)
    for correlation, words in groups.items():
        medians = (f"{name} {np.median(results[correlation, name]['MSE']):.4f}" for name in options.models)
        console.print(f"{words}, medians: {', '.join(medians)}")


if __name__ == "__main__":
    main()
